"""A vectorised open-addressing index: u64 key to slot number."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.mixing import U64, mix

I64 = npt.NDArray[np.int64]

_EMPTY = -1
_REMOVED = -2


def positions(mask: npt.NDArray[np.bool_]) -> I64:
    """Return where a one-dimensional mask is true; what ``np.flatnonzero`` does, at a third of its call's cost."""
    found: I64 = mask.nonzero()[0]
    return found


class KeyIndex:
    """Gives every key a dense slot in ``0 .. capacity - 1`` until it is removed.

    Which slot a key gets depends on history and must never show in a result; what is kept and what is
    refused depends only on the order of calls. Linear probing at a load of at most one half; the cells
    grow with the content, so a small table is cheap however large its capacity is.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            problem = f"capacity must be at least 1, not {capacity}"
            raise ValueError(problem)
        self.capacity = capacity
        self._keys: U64 = np.zeros(0, np.uint64)  # by slot
        self._used: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._free: I64 = np.zeros(0, np.int64)  # slots given back, last one first out
        self._next = 0  # slots from here on were never used
        self._removed = 0
        self._resize(64)

    def __len__(self) -> int:
        return self._next - len(self._free)

    def _resize(self, cells: int) -> None:
        self._mask = np.uint64(cells - 1)
        self._cell_key: U64 = np.zeros(cells, np.uint64)
        self._cell_slot: npt.NDArray[np.int32] = np.full(cells, _EMPTY, np.int32)
        self._removed = 0
        live = positions(self._used)
        if len(live):
            self._place(self._keys[live], live)

    def lookup(self, keys: U64) -> I64:
        """Return the slot of each key, -1 where it has none. Keys may repeat. int64, shape (n,)."""
        result = np.full(len(keys), -1, np.int64)
        if not len(keys):
            return result
        cell = mix(keys) & self._mask
        slot = self._cell_slot[cell]
        hit = (self._cell_key[cell] == keys) & (slot >= 0)
        result[hit] = slot[hit]
        pending = positions(~hit & (slot != _EMPTY))
        one = np.uint64(1)
        while len(pending):
            cell[pending] = (cell[pending] + one) & self._mask
            at = cell[pending]
            slot = self._cell_slot[at]
            hit = (self._cell_key[at] == keys[pending]) & (slot >= 0)
            result[pending[hit]] = slot[hit]
            pending = pending[~hit & (slot != _EMPTY)]
        return result

    def insert(self, keys: U64) -> I64:
        """Give slots to keys that are absent and differ from each other; -1 where the table is full.

        The first keys are served first. int64, shape (n,).
        """
        slots = np.full(len(keys), -1, np.int64)
        count = min(len(keys), self.capacity - len(self))
        if count <= 0:
            return slots
        reused = min(count, len(self._free))
        slots[:reused] = self._free[len(self._free) - reused :][::-1]
        self._free = self._free[: len(self._free) - reused]
        slots[reused:count] = np.arange(self._next, self._next + count - reused)
        self._next += count - reused
        self._grow_slots(self._next)
        given = slots[:count]
        self._keys[given] = keys[:count]
        self._used[given] = True
        if 2 * (len(self) + self._removed) > len(self._cell_slot):
            cells = len(self._cell_slot)
            while 2 * len(self) > cells:
                cells *= 2
            self._resize(cells if 4 * len(self) <= cells else cells * 2)
        else:
            self._place(keys[:count], given)
        return slots

    def _grow_slots(self, needed: int) -> None:
        if needed > len(self._keys):
            size = min(self.capacity, max(64, 2 * needed))
            self._keys = np.concatenate([self._keys, np.zeros(size - len(self._keys), np.uint64)])
            self._used = np.concatenate([self._used, np.zeros(size - len(self._used), np.bool_)])

    def _place(self, keys: U64, slots: I64) -> None:
        cell = mix(keys) & self._mask
        pending = np.arange(len(keys))
        one = np.uint64(1)
        while len(pending):
            at = cell[pending]
            # Only never-used cells: a removed one before the key's end of chain would hide nothing,
            # but telling them apart again costs more than the rebuild that clears them.
            empty = self._cell_slot[at] == _EMPTY
            claimed = at[empty]
            self._cell_slot[claimed] = slots[pending[empty]]
            self._cell_key[claimed] = keys[pending[empty]]
            # Where several keys claimed one cell, the last write stands; the others probe on.
            placed = empty.copy()
            placed[empty] = self._cell_slot[claimed] == slots[pending[empty]]
            pending = pending[~placed]
            cell[pending] = (cell[pending] + one) & self._mask

    def remove(self, slots: I64) -> None:
        """Take keys out by their slots, which are in use and differ from each other."""
        if not len(slots):
            return
        keys = self._keys[slots]
        cell = mix(keys) & self._mask
        pending = np.arange(len(keys))
        one = np.uint64(1)
        while len(pending):
            hit = self._cell_slot[cell[pending]] == slots[pending]
            self._cell_slot[cell[pending[hit]]] = _REMOVED
            pending = pending[~hit]
            cell[pending] = (cell[pending] + one) & self._mask
        self._removed += len(slots)
        self._used[slots] = False
        self._free = np.concatenate([self._free, np.asarray(slots, np.int64)])

    def live(self) -> I64:
        """Return the slots in use, ascending. int64."""
        return positions(self._used).astype(np.int64)

    def in_use(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return of an array by slot the rows of slots in use, ascending; a view where none was given back."""
        return rows[: self._next] if not len(self._free) else rows[self.live()]

    def keys(self, slots: I64) -> U64:
        """Return the keys of slots in use."""
        return self._keys[slots]
