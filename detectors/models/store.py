"""What is kept per workload: one array per quantity, one row per workload, bounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

Array = npt.NDArray[Any]
I64 = npt.NDArray[np.int64]

STALE = 600  # s; a workload not heard of for this long may make room for a new one, unless told otherwise


@dataclass(frozen=True)
class Quantity:
    """One array of the store: shape and dtype of a row, and the value that stands for "nothing yet"."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    empty: float = 0


class WorkloadStore:
    """Rows by workload name. Which row a workload has depends on history and must not show in a result."""

    def __init__(self, quantities: Sequence[Quantity], capacity: int, stale: int = STALE) -> None:
        self._quantities = {q.name: q for q in quantities}
        self._capacity = capacity
        self._stale = stale
        self._rows: dict[str, int] = {}
        self._free: list[int] = []
        self._allocated = 0
        self._arrays: dict[str, Array] = {q.name: _filled(q, 0) for q in (*quantities, _LAST)}
        # When each row was last asked for; a row that is asked for now is not let go in the same breath.
        self._heard = np.zeros(0, np.int64)
        self._none_stale_before = 0
        self.evicted = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, name: str) -> Array:
        """Return a quantity of all rows, to be indexed by row and written to in place."""
        return self._arrays[name]

    @property
    def bytes_per_workload(self) -> int:
        """Bytes of one row."""
        return sum(int(np.prod(q.shape)) * np.dtype(q.dtype).itemsize for q in (*self._quantities.values(), _LAST))

    def rows(self, names: Sequence[str], minute: int) -> I64:
        """Find or admit workloads.

        Returns:
            int64 rows; -1 where a workload is new and no row is free or stale.
        """
        found = [self._rows.get(name, -1) for name in names]
        known = [row for row in found if row >= 0]
        self._heard[known] = np.maximum(self._heard[known], minute)
        told = zip(names, found, strict=True)
        return np.array([self.row(name, minute) if row < 0 else row for name, row in told], np.int64)

    def row(self, name: str, minute: int) -> int:
        """Find or admit one workload; -1 where it is new and no row is free or stale."""
        found = self._rows.get(name)
        if found is None:
            return self._admit(name, minute)
        self._heard[found] = max(self._heard[found], minute)
        return found

    def _admit(self, name: str, minute: int) -> int:
        if len(self._rows) >= self._capacity:
            self._evict(minute)
        if len(self._rows) >= self._capacity:
            self.refused += 1
            return -1
        if not self._free:
            self._grow()
        row = self._free.pop()
        self._rows[name] = row
        self._heard[row] = minute
        for quantity in (*self._quantities.values(), _LAST):
            self._arrays[quantity.name][row] = quantity.empty
        return row

    def _evict(self, minute: int) -> None:
        """Let go of a sixteenth of the capacity at most, the longest unheard first."""
        if minute < self._none_stale_before:
            # Nothing is heard of earlier than it was: a full store that newcomers keep asking is not searched for each.
            return
        heard = self._heard
        stale = [(int(heard[r]), n) for n, r in self._rows.items() if heard[r] <= minute - self._stale]
        for _, name in sorted(stale)[: max(1, self._capacity // 16)]:
            self._free.append(self._rows.pop(name))
            self.evicted += 1
        left = np.fromiter(self._rows.values(), np.int64, len(self._rows))
        self._none_stale_before = int(heard[left].min(initial=minute)) + self._stale

    def _grow(self) -> None:
        size = min(self._capacity, max(16, 2 * self._allocated))
        for quantity in (*self._quantities.values(), _LAST):
            more = _filled(quantity, size - self._allocated)
            self._arrays[quantity.name] = np.concatenate([self._arrays[quantity.name], more])
        self._heard = np.concatenate([self._heard, np.zeros(size - self._allocated, np.int64)])
        self._free = list(range(size - 1, self._allocated - 1, -1))
        self._allocated = size

    def clear(self, row: int, names: Sequence[str]) -> None:
        """Set some quantities of a row back to nothing."""
        for name in names:
            self._arrays[name][row] = self._quantities[name].empty

    def snapshot(self) -> dict[str, Array]:
        """Return the content by workload name, in name order, as arrays."""
        names = sorted(self._rows)
        order = np.array([self._rows[n] for n in names], np.int64)
        state = {name: values[order] for name, values in self._arrays.items()}
        state["names"] = np.frombuffer(orjson.dumps(names), np.uint8)
        state["counters"] = np.array([self.evicted, self.refused], np.int64)
        return state

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take in what ``snapshot`` gave; a quantity that it does not hold, or in another shape, starts empty."""
        names: list[str] = orjson.loads(state["names"].tobytes())
        self.evicted, self.refused = (int(n) for n in state["counters"])
        self._rows, self._free, self._allocated = {}, [], 0
        self._arrays = {q.name: _filled(q, 0) for q in (*self._quantities.values(), _LAST)}
        self._heard, self._none_stale_before = np.zeros(0, np.int64), 0
        rows = np.array([self._admit(n, 0) for n in names[: self._capacity]], np.int64)
        for name, values in self._arrays.items():
            given = state.get(name)
            if given is not None and given.shape[1:] == values.shape[1:]:
                values[rows] = given[: self._capacity]
        self._heard[rows] = self._arrays["last"][rows]


_LAST = Quantity("last", (), "i8")


def _filled(quantity: Quantity, rows: int) -> Array:
    return np.full((rows, *quantity.shape), quantity.empty, quantity.dtype)
