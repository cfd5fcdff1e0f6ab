"""Rows that are found by key: the storage of every bounded table. The loops are in ``detectors.kernels``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.index import I64
from detectors.kernels import windows as kernel
from detectors.kernels.cells import FREE, USED, fill

Array = npt.NDArray[Any]

_CELLS = 1 << 10


class Slots:
    """Up to ``capacity`` rows of ``width`` int64, their cells, free slots and counters.

    Rows are set aside in full at once: the system gives memory only to those that are written. A row keeps its slot
    until it is freed, so what is not touched is not changed, byte for byte.
    """

    def __init__(self, capacity: int, width: int) -> None:
        if capacity < 1:
            problem = f"capacity must be at least 1, not {capacity}"
            raise ValueError(problem)
        self.capacity = capacity
        self.rows: I64 = np.zeros((capacity, width), np.int64)
        self.cells = np.zeros(_CELLS, np.int32)
        self.free: I64 = np.zeros(capacity, np.int64)
        self.state: I64 = np.zeros(kernel.STATES, np.int64)
        self.state[kernel.SWEPT] = self.state[kernel.NOW] = -(1 << 40)

    def __len__(self) -> int:
        return int(self.state[USED] - self.state[FREE])

    @property
    def used(self) -> int:
        """Rows that were ever written, freed ones included."""
        return int(self.state[USED])

    def make_room(self, more: int) -> None:
        """See to it that the cells stay at most half full when so many keys are added."""
        wanted = 2 * min(self.capacity, len(self) + more)
        if wanted > len(self.cells):
            self._build(wanted)

    def rebuild(self) -> None:
        """Build the cells again, after rows were freed by other means than a sweep."""
        self.cells[:] = 0
        fill(self.cells, self.rows, self.used)

    def _build(self, wanted: int) -> None:
        self.cells = np.zeros(1 << (2 * wanted - 1).bit_length(), np.int32)
        fill(self.cells, self.rows, self.used)

    def snapshot(self) -> dict[str, Array]:
        """Return rows, free slots and counters: views, valid until the next change."""
        return {"rows": self.rows[: self.used], "free": self.free[: self.state[FREE]], "state": self.state}

    def restore(self, state: Mapping[str, Array], rows: I64) -> None:
        """Take in what ``snapshot`` gave, with its rows brought to this width.

        Raises:
            ValueError: it does not fit; nothing was taken in then.
        """
        used, free = len(rows), state["free"]
        counters = state["state"]
        fits = used <= self.capacity and rows.shape[1:] == self.rows.shape[1:] and len(counters) == kernel.STATES
        fits = fits and counters[USED] == used and counters[FREE] == len(free)
        # Slots are trusted by compiled code: one that points outside would write into foreign memory.
        if not fits or (len(free) and (free.min() < 0 or free.max() >= used or (rows[free, 1] >= 0).any())):
            problem = "the rows of a table do not fit their counters, or exceed its capacity"
            raise ValueError(problem)
        self.rows[:used] = rows
        self.free[: len(free)] = free
        self.state[:] = counters
        self._build(max(_CELLS, 2 * len(self)))
