"""The edges of one node's present hour, as columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from detectors.hashing import combine, mix
from detectors.index import I64, KeyIndex, positions
from detectors.kernels.grouping import sum_columns
from detectors.mixing import U64

_UNKNOWN = 1 << 31  # from here on: texts that have no number yet

Bits = npt.NDArray[np.bool_]

MOST_OF_NODE = 1 << 14
# Peers and ports of one workload on one node in one hour; ordinary services have a few tens.
MOST_OF_WORKLOAD = 256


class Pieces(NamedTuple):
    """What joins the hour, by piece; ends are numbers of texts."""

    own: I64
    peer: I64
    service: I64  # protocol << 16 | port
    initiated: Bits
    sums: I64  # flows, bytes sent, bytes received; shape (n, 3)

    def chosen(self, rows: I64) -> Pieces:
        """Return some of them."""
        return Pieces(self.own[rows], self.peer[rows], self.service[rows], self.initiated[rows], self.sums[rows])


class SaidEdge(NamedTuple):
    """One edge in words; the order of these is the order in which they are said."""

    own: str
    peer: str
    service: int
    initiated: bool
    flows: int
    sent: int
    received: int


class HourEdges:
    """Edges by (own text, peer text, service, who initiated), with sums that only grow.

    Args:
        hour: begin, s since epoch.
    """

    def __init__(self, hour: int) -> None:
        self.hour = hour
        self._texts: dict[str, int] = {}
        self._of_own: I64 = np.zeros(64, np.int64)  # edges by number of the own text
        self._index = KeyIndex(MOST_OF_NODE)
        nothing = np.zeros(0, np.int64)
        self._columns = Pieces(nothing, nothing, nothing, np.zeros(0, np.bool_), np.zeros((0, 3), np.int64))
        self._changed: Bits = np.zeros(0, np.bool_)

    def __len__(self) -> int:
        return len(self._index)

    def add(self, pieces: Pieces, texts: Sequence[str], room: int) -> Counter[str]:
        """Add pieces, in the order in which they were first seen; at most ``room`` new edges.

        Args:
            pieces: ends are numbers into ``texts``.
            texts: differ from each other.
            room: for edges that are not there yet.

        Returns:
            New edges that were not taken: ``peers`` beyond a workload's limit, ``edges`` without room.
        """
        for own in np.unique(pieces.own).tolist():
            self._number(texts[own])
        known = np.array([self._texts.get(text, _UNKNOWN + place) for place, text in enumerate(texts)], np.int64)
        pieces = pieces._replace(own=known[pieces.own], peer=known[pieces.peer])
        keys, first, inverse = np.unique(_keys(pieces), return_index=True, return_inverse=True)
        order = np.argsort(first)
        sums = sum_columns(inverse.astype(np.int64), pieces.sums, len(keys))[order]
        pieces = pieces.chosen(first[order])._replace(sums=sums)
        keys = keys[order]
        slots = self._index.lookup(keys)
        new = positions(slots < 0)
        taken = new[self._allowed(pieces.own[new])]
        lost = Counter(peers=len(new) - len(taken))
        room = max(0, min(room, self._index.capacity - len(self)))
        for row in taken[:room].tolist():
            if pieces.peer[row] >= _UNKNOWN:  # only what is kept is remembered by name
                pieces.peer[row] = self._number(texts[pieces.peer[row] - _UNKNOWN])
        slots[taken[:room]] = self._enter(pieces, taken[:room])
        lost["edges"] = int((slots[taken] < 0).sum())
        held = positions(slots >= 0)
        # Keys differ, so no slot comes twice.
        self._columns.sums[slots[held]] += pieces.sums[held]
        self._changed[slots[held]] = True
        return lost

    def _number(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def _allowed(self, own: I64) -> Bits:
        """Tell which new edges are within their workload's limit: its first ones."""
        if len(self._texts) > len(self._of_own):
            self._of_own = np.concatenate([self._of_own, np.zeros(2 * len(self._texts), np.int64)])
        order = np.argsort(own, kind="stable")
        ordered = own[order]
        begins = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(own) else np.zeros(0, np.bool_)
        start = np.maximum.accumulate(np.where(begins, np.arange(len(own)), 0))
        rank = np.zeros(len(own), np.int64)
        rank[order] = np.arange(len(own)) - start
        allowed: Bits = self._of_own[own] + rank < MOST_OF_WORKLOAD
        return allowed

    def _enter(self, pieces: Pieces, rows: I64) -> I64:
        """Enter edges that are not there and have room; returns their slots."""
        chosen = pieces.chosen(rows)
        slots = self._index.insert(_keys(chosen))
        self._grow(1 + int(slots.max(initial=-1)))
        for column, values in zip(self._columns[:4], chosen[:4], strict=True):
            column[slots] = values
        np.add.at(self._of_own, chosen.own, 1)
        return slots

    def _grow(self, needed: int) -> None:
        size = len(self._changed)
        if needed > size:
            more = max(64, 2 * needed) - size
            own, peer, service, initiated, sums = (_longer(column, more) for column in self._columns)
            self._columns = Pieces(own, peer, service, initiated, sums)
            self._changed = _longer(self._changed, more)

    def changed(self) -> list[SaidEdge]:
        """Return the edges that changed since this was last asked, in order."""
        rows = positions(self._changed)
        self._changed[rows] = False
        texts = list(self._texts)
        own, peer, service, initiated, sums = (column.tolist() for column in self._columns.chosen(rows))
        return sorted(
            SaidEdge(texts[own[n]], texts[peer[n]], service[n], initiated[n], *sums[n]) for n in range(len(rows))
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the edges and what changed."""
        live = self._index.live()
        own, peer, service, initiated, sums = self._columns.chosen(live)
        return {
            "hour": self.hour, "texts": np.frombuffer(orjson.dumps(list(self._texts)), np.uint8), "own": own,
            "peer": peer, "service": service, "initiated": initiated, "sums": sums, "changed": self._changed[live],
        }  # fmt: skip

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> HourEdges:
        """Return what ``snapshot`` told of.

        Raises:
            ValueError: it is damaged.
        """
        edges = cls(int(state["hour"]))
        texts: Sequence[str] = orjson.loads(np.asarray(state["texts"], np.uint8).tobytes())
        edges._texts = {str(text): number for number, text in enumerate(texts)}
        sums = np.array(state["sums"], np.int64).reshape(-1, 3)
        own, peer, service = (np.array(state[name], np.int64) for name in ("own", "peer", "service"))
        pieces = Pieces(own, peer, service, np.array(state["initiated"], np.bool_), sums)
        ends = np.concatenate([pieces.own, pieces.peer])
        fits = len({len(column) for column in pieces}) == 1 and len(sums) <= MOST_OF_NODE
        if not fits or (len(ends) and not 0 <= ends.min() <= ends.max() < len(texts)):
            problem = "the edges of an hour do not fit their names"
            raise ValueError(problem)
        edges._allowed(pieces.own)  # makes room for their counts
        slots = edges._enter(pieces, np.arange(len(sums)))
        edges._columns.sums[slots] = sums
        edges._changed[slots] = np.array(state["changed"], np.bool_)
        return edges


def _keys(pieces: Pieces) -> U64:
    ends = mix((pieces.own << 32 | pieces.peer).astype(np.uint64))
    return combine(ends, (pieces.service << 1 | pieces.initiated).astype(np.uint64))


def _longer(column: npt.NDArray[Any], more: int) -> npt.NDArray[Any]:
    return np.concatenate([column, np.zeros((more, *column.shape[1:]), column.dtype)])
