"""What the victim's node told as copies, counted only as far as nobody else told it.

A packet that claims an address of the cluster and ends no handshake is told by the node where it entered and, as a
copy, by the victim's. The copy is there for senders whose node tells nothing. So a copy counts where the last seconds
held fewer such packets: the node where it entered tells it at once, the copy comes a second later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.index import I64, positions
from detectors.mixing import U64
from detectors.recent_rows import RecentRows

# Copies wait a second for a handshake, and are marked unanswered after three; nodes differ by one.
_SECONDS = 5
_ROWS = 20_000  # victims by second that are remembered, about 4 MB; the oldest are forgotten first


class Copies:
    """Sums of victims that copies may repeat, by tick; what copies have used up stands beside them, negative."""

    def __init__(self, sums: Sequence[str]) -> None:
        """Start empty.

        Args:
            sums: names of the sums, in the order of the columns.
        """
        self._sums = tuple(sums)
        # Of these, packets that belong to a conversation have no copies.
        self._conversing = [self._sums.index(name) for name in ("attempts", "syn", "top_port_attempts")]
        self._established = self._sums.index("established")
        told = {"established", "exchanged", "packets", "bytes"}  # of conversations, too: they say nothing of copies
        self._alone = [place for place, name in enumerate(self._sums) if name not in told]
        self._rows = RecentRows(_SECONDS, _ROWS)

    def count(self, tick: int, victims: U64, own: I64, copied: Mapping[str, npt.NDArray[Any]] | None) -> I64:
        """Return what the copies of a tick add to each victim's sums, int64, shape (victims, sums).

        Args:
            tick: that closes.
            victims: their hashes, each once.
            own: sums of what is no copy.
            copied: rows of the section ``victim_copy`` with ``victim`` as numbers into ``victims``; none: none came.
        """
        self._note(tick, victims, own)
        added = np.zeros_like(own)
        if copied is None:
            return added
        sums = np.zeros_like(own)
        np.add.at(sums, copied["victim"], np.stack([copied[name] for name in self._sums], axis=1))
        rows = positions(np.asarray(sums.any(axis=1)))
        used = np.minimum(sums[rows], np.maximum(self._told(victims[rows], own.shape[1]), 0))
        self._add(tick, victims[rows], -used)
        added[rows] = sums[rows] - used
        return added

    def _note(self, tick: int, victims: U64, own: I64) -> None:
        self._rows.forget(tick)
        alone = own.copy()
        alone[:, self._conversing] -= own[:, [self._established]]
        rows = positions(np.asarray((alone[:, self._alone] > 0).any(axis=1)))
        self._add(tick, victims[rows], np.maximum(alone[rows], 0))

    def _add(self, tick: int, victims: U64, sums: I64) -> None:
        if len(victims):
            self._rows.add(tick, {"victim": victims, "sums": sums})

    def _told(self, victims: U64, width: int) -> I64:
        """Return what is left of the sums of the last seconds."""
        order = np.argsort(victims)
        left = np.zeros((len(victims), width), np.int64)
        for _, rows in self._rows.ticks:
            place = np.minimum(np.searchsorted(victims[order], rows["victim"]), len(victims) - 1)
            same = victims[order][place] == rows["victim"]
            np.add.at(left, order[place[same]], rows["sums"][same])
        return left

    def snapshot(self) -> list[Any]:
        """Return the rows as arrays by tick."""
        return self._rows.snapshot()

    def restore(self, state: Sequence[Any]) -> None:
        """Take in what ``snapshot`` gave."""
        self._rows.restore(state)
