"""Which slots to look at, at which cut: a calendar that costs nothing for seconds without entries."""

from __future__ import annotations

import heapq

import numpy as np

from exporter.chunks import I64


class DueCuts:
    """Notes of (cut, slot); a note may be out of date when it is taken, which its taker must check."""

    def __init__(self) -> None:
        self._slots: dict[int, list[I64]] = {}
        self._cuts: list[int] = []

    @property
    def next(self) -> int | None:
        """The earliest cut with a note; None without any."""
        return self._cuts[0] if self._cuts else None

    def add(self, cuts: I64, slots: I64) -> None:
        """Note slots at cuts; both int64 (n,)."""
        if not len(cuts):
            return
        order = np.argsort(cuts, kind="stable")
        cuts, slots = cuts[order], slots[order]
        starts = np.flatnonzero(np.concatenate([[True], cuts[1:] != cuts[:-1]]))
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(cuts)], strict=True):
            cut = int(cuts[start])
            if cut not in self._slots:
                self._slots[cut] = []
                heapq.heappush(self._cuts, cut)
            self._slots[cut].append(slots[start:stop])

    def take(self, cut: int) -> I64:
        """Remove and return the slots noted up to a cut."""
        found: list[I64] = []
        while self._cuts and self._cuts[0] <= cut:
            found += self._slots.pop(heapq.heappop(self._cuts))
        return np.concatenate(found) if found else np.zeros(0, np.int64)
