"""Distinct elements of many keys in a sliding window: all are kept as columns, counted only where there may be many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.grouping import Grouping
from detectors.index import I64, KeyIndex
from detectors.mixing import U64
from detectors.recent_elements import KEPT

Array = npt.NDArray[Any]

_KEYS = 1 << 22
_SMALL = 1 << 10  # entries that are not worth a sweep
_HASH = np.uint64(0xFFFFFFFF)
_ENTRY = np.dtype([("node", np.int64), ("tick", np.int64), ("key", np.uint64), ("element", np.int64)])


class AskedLately:
    """Elements by key of the last ``window`` seconds.

    Memory is as many entries as a node may add within the window, at most twice: callers bound those of a tick.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._begin(np.zeros(0, _ENTRY))

    def _begin(self, entries: Array) -> None:
        self._entries, self._used = entries.copy(), len(entries)
        self._swept = len(entries)
        self._index = KeyIndex(_KEYS)
        self._counts: I64 = np.zeros(0, np.int64)  # by slot of a key
        if len(entries):
            self._count(np.ascontiguousarray(entries["key"]))

    def __len__(self) -> int:
        return self._used

    def add(self, nodes: I64, ticks: I64, keys: U64, hashes: U64) -> I64:
        """Take in elements.

        Args:
            nodes: number of each one's node; a node's ticks never go back.
            ticks: s since epoch.
            keys: that differ between nodes.
            hashes: of elements, of which 32 bits count.

        Returns:
            How many elements of each key there are at most, repeats included; int64, shape (n,).
        """
        if self._used > 2 * self._swept + _SMALL:
            self._begin(self._living())
        end = self._used + len(keys)
        if end > len(self._entries):
            more = max(end, 2 * len(self._entries)) - len(self._entries)
            self._entries = np.concatenate([self._entries, np.zeros(more, _ENTRY)])
        new = self._entries[self._used : end]
        new["node"], new["tick"], new["key"], new["element"] = nodes, ticks, keys, (hashes & _HASH).astype(np.int64)
        self._used = end
        return self._count(keys)

    def _count(self, keys: U64) -> I64:
        equal = Grouping.equal(keys)
        distinct = keys[equal.first]
        slots = self._index.lookup(distinct)
        absent = slots < 0
        slots[absent] = self._index.insert(distinct[absent])
        size = int(slots.max(initial=-1)) + 1
        if size > len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros(2 * size - len(self._counts), np.int64)])
        self._counts[slots[absent]] = 0
        self._counts[slots] += equal.sizes()
        counts: I64 = self._counts[slots][equal.number]
        return counts

    def elements(self, key: int, tick: int) -> list[int]:
        """Return the distinct elements of a key in the window that ends with a tick.

        Returns:
            For each of the newest ``KEPT`` its last tick in the upper bits and the element in the lower 32, ascending.
        """
        entries = self._entries[: self._used]
        own = entries[(entries["key"] == np.uint64(key)) & (entries["tick"] > tick - self._window)]
        _, last = np.unique(own["element"][::-1], return_index=True)  # entries of a key are in order of ticks
        last = len(own) - 1 - last
        packed: list[int] = np.sort(own["tick"][last] << 32 | own["element"][last])[-KEPT:].tolist()
        return packed

    def _living(self) -> Array:
        """Return the entries that lie in their nodes' windows, in order of node and arrival."""
        entries = self._entries[: self._used]
        if not self._used:
            return entries
        now = np.zeros(int(entries["node"].max()) + 1, np.int64)
        np.maximum.at(now, entries["node"], entries["tick"])
        living = entries[entries["tick"] > now[entries["node"]] - self._window]
        ordered: Array = living[np.argsort(living["node"], kind="stable")]
        return ordered

    def snapshot(self) -> dict[str, Array]:
        """Return the entries."""
        return {f"asked_{name}": np.ascontiguousarray(self._living()[name]) for name in _ENTRY.names or ()}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take in what ``snapshot`` gave."""
        entries = np.zeros(len(state["asked_key"]), _ENTRY)
        for name in _ENTRY.names or ():
            entries[name] = state[f"asked_{name}"]
        self._begin(entries)
