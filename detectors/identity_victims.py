"""Victims by identity: what is opened towards all addresses of one pod, workload, Service and so on.

Stage 1 puts the victims of a tick together and sends them to the rollup partition of their identity, so that all of it
meets in one place whatever the addresses are. Only what rules ask for is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import KeyView
from detectors.features import Distinct, Sum
from detectors.grouping import Grouping
from detectors.identity_keys import TEXT_BYTES, IdentityKeys
from detectors.index import positions
from detectors.kernels.grouping import rank_by
from detectors.mixing import U64, hash_text
from detectors.plan import FeaturePlan
from detectors.spaces import IDENTITY_SPACES, SPACES
from detectors.table import SpaceTable
from detectors.victim_rows import CONNECTIONS

Array = npt.NDArray[Any]
Columns = dict[str, Array]


def victim_spaces(wanted: Sequence[str] | set[str]) -> tuple[str, ...]:
    """Return those of some spaces that are of victims by identity, ordered."""
    return tuple(name for name, (space, _) in IDENTITY_SPACES.items() if space == "victim" and name in wanted)


def identity_rows(
    tick: int, spaces: Sequence[str], keys: IdentityKeys, victims: Columns, new: Columns | None, most: int
) -> tuple[Columns, Columns | None, U64]:
    """Return the rows of the sections ``identity`` and ``identity_source``, and a hash of each of the former.

    Args:
        tick: that the victims are of.
        spaces: that are asked for.
        keys: of addresses.
        victims: columns of ``VICTIM``, each victim once.
        new: columns of ``NEW_SOURCE`` with ``victim`` as numbers into these; none: sources are not counted.
        most: rows of sources per identity; those beyond are left out.
    """
    rows: list[Columns] = []
    sources: list[Columns] = []
    hashes: list[U64] = []
    base = 0
    for name in spaces:
        found, texts = keys.of(IDENTITY_SPACES[name][1], victims["dst"], np.full(len(victims["dst"]), tick, np.int64))
        kinds = Grouping.equal(found)
        sums = {column: kinds.total(victims[column]) for column in CONNECTIONS}
        who = np.array([text.decode(errors="ignore") for text in texts[kinds.first].tolist()], np.str_)
        rows.append({"space": np.full(len(kinds), name), "who": who, **sums})
        hashes.append(found[kinds.first])
        if new is not None:
            kind = kinds.number[new["victim"]].astype(np.int64)
            kept = positions(rank_by(kind, len(kinds)) < most)
            sources.append({"identity": base + kind[kept], "src_hash": new["src_hash"][kept]})
        base += len(kinds)
    return _joined(rows), _joined(sources) if sources else None, np.concatenate(hashes)


def _joined(pieces: Sequence[Columns]) -> Columns:
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


class IdentityVictims:
    """The tables of stage 2 for victims by identity, one for each space that is asked for."""

    def __init__(self, plan: FeaturePlan) -> None:
        self._plan = plan
        self.tables = {name: SpaceTable(SPACES[name], plan.features(name)) for name in victim_spaces(plan.spaces())}

    def take(self, tick: int, sections: Mapping[str, Columns], capabilities: int) -> dict[str, KeyView]:
        """Add a tick's rows; return the touched keys of each space."""
        if not self.tables or "identity" not in sections:
            return {}
        views = {}
        rows = sections["identity"]
        for name, table in self.tables.items():
            mine = positions(rows["space"] == name)
            if len(mine):
                views[name] = self._add(tick, table, mine, sections, capabilities)
        return views

    def _add(self, tick: int, table: SpaceTable, mine: npt.NDArray[np.int64], sections: Mapping[str, Columns],
             capabilities: int) -> KeyView:  # fmt: skip
        rows = sections["identity"]
        texts = [str(text) for text in rows["who"][mine].tolist()]
        hashes = np.array([hash_text(text) for text in texts], np.uint64)
        who = np.array([text.encode()[:TEXT_BYTES] for text in texts], f"S{TEXT_BYTES}")
        kinds = Grouping.equal(hashes)
        ticks = np.full(len(kinds), tick, np.int64)
        totals = {name: kinds.total(rows[name][mine]) for name in CONNECTIONS}
        slots = table.touch(hashes[kinds.first], ticks, lambda fresh: {"who": who[kinds.first[fresh]]})
        good = positions(slots >= 0)
        features = [(f, f.aggregate) for f in self._plan.features(table.space.name)]
        table.add(slots[good], ticks[good], {f: totals[a.measure][good] for f, a in features if isinstance(a, Sum)})
        if "identity_source" in sections:
            self._add_sources(tick, table, _placed(slots[kinds.number], mine, len(rows["who"])), sections)
        zeros = np.zeros(len(good), np.int64)
        seen = np.full(len(good), capabilities, np.int64)
        return KeyView(table, slots[good], ticks[good], ("",), zeros, seen)

    def _add_sources(self, tick: int, table: SpaceTable, slots: Array, sections: Mapping[str, Columns]) -> None:
        sources = sections["identity_source"]
        owners = slots[sources["identity"]]
        kept = owners >= 0
        ticks, nothing = np.full(int(kept.sum()), tick, np.int64), np.zeros(int(kept.sum()), np.bool_)
        for feature in self._plan.features(table.space.name):
            if isinstance(feature.aggregate, Distinct):
                table.add_elements(feature, owners[kept], ticks, sources["src_hash"][kept], nothing)


def _placed(slots: Array, rows: Array, count: int) -> Array:
    """Return the slot of each row of a section, -1 where it is another space's."""
    out = np.full(count, -1, np.int64)
    out[rows] = slots
    return out
