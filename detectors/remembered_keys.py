"""A bounded memory of keys by node, as a ledger is, for those that come by the thousand: whole columns at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.grouping import Grouping
from detectors.index import I64, KeyIndex, positions
from detectors.kernels.grouping import rank_by
from detectors.mixing import U64

Array = npt.NDArray[Any]

_MOST = 1 << 22  # keys of all nodes together
_NODE, _SINCE, _TOUCHED, _KNOWN, _HEAD = 0, 1, 2, 3, 4


class RememberedKeys:
    """Rows of int64 by key, ``capacity`` keys per node, forgotten ``lifetime`` seconds after their last touch.

    Three quarters of a node's room are for keys that were touched in more than one tick; among these only age makes
    room. The others push out each other, the longest untouched first. Each node has its own room, so how ticks of
    several nodes are put together changes nothing, and a key belongs to one node: callers mix its number into it.

    Attributes:
        values: int64, shape (slots, width), by slot; a key's row begins with zeros.
        shed: keys that found no room or were pushed out before their time, by node.
    """

    parts = ("keys", "rows", "shed")  # of a snapshot

    def __init__(self, capacity: int, lifetime: int, width: int) -> None:
        self._new_room = max(1, capacity // 4)
        self._known_room = max(1, capacity - self._new_room)
        self._lifetime = lifetime
        self._width = width
        self.shed: dict[int, int] = {}
        self._begin()

    def _begin(self) -> None:
        self._index = KeyIndex(_MOST)
        self._heads: I64 = np.zeros((0, _HEAD), np.int64)
        self.values: I64 = np.zeros((0, self._width), np.int64)
        self._counts: I64 = np.zeros((0, 2), np.int64)  # by node: keys that are new, and known

    def __len__(self) -> int:
        return len(self._index)

    def find(self, keys: U64, ticks: I64) -> I64:
        """Return the slots of keys, -1 where one is absent or has outlived its time; int64, shape (n,)."""
        slots = self._index.lookup(keys)
        if len(self._heads):
            slots[self._heads[slots, _TOUCHED] <= ticks - self._lifetime] = -1
        return slots

    def touch(self, slots: I64, ticks: I64) -> None:
        """Note that keys, all different, were touched in these ticks."""
        heads = self._heads
        rises = (heads[slots, _KNOWN] == 0) & (heads[slots, _TOUCHED] < ticks)
        heads[slots, _TOUCHED] = ticks
        rising = slots[rises]
        if not len(rising):
            return
        nodes = heads[rising, _NODE]
        over = self._counts[:, 1] + np.bincount(nodes, minlength=len(self._counts)) > self._known_room
        if over.any():
            for node in positions(over).tolist():
                self._forget_known(node, int(heads[rising[nodes == node][0], _TOUCHED]))
            room = self._known_room - self._counts[:, 1]
            rising = rising[self._rank(nodes) < room[nodes]]
            nodes = heads[rising, _NODE]
        heads[rising, _KNOWN] = 1
        moved = np.bincount(nodes, minlength=len(self._counts))
        self._counts[:, 0] -= moved
        self._counts[:, 1] += moved

    def take(self, keys: U64, nodes: I64, ticks: I64) -> tuple[I64, I64]:
        """Touch keys, which may repeat, and take in those that are absent.

        Args:
            keys: u64, shape (n,).
            nodes: number of each key's node.
            ticks: in which they are touched, one per node.

        Returns:
            Their slots, -1 where there was no room, int64, shape (n,); the positions of the first of each absent key.
        """
        equal = Grouping.equal(keys)
        first = equal.first
        slots = self.find(keys[first], ticks[first])
        absent = slots < 0
        self.touch(slots[~absent], ticks[first[~absent]])
        new: I64 = first[absent]
        slots[absent] = self.admit(keys[new], nodes[new], ticks[new])
        every: I64 = slots[equal.number]
        return every, new

    def admit(self, keys: U64, nodes: I64, ticks: I64) -> I64:
        """Take in keys that ``find`` did not find, all different; the first of a node first.

        Args:
            keys: u64, shape (n,).
            nodes: number of each key's node.
            ticks: in which they are touched, one per node.

        Returns:
            Their slots, -1 where there was no room; int64, shape (n,).
        """
        slots = np.full(len(keys), -1, np.int64)
        if not len(keys):
            return slots
        old = self._index.lookup(keys)
        self._remove(old[old >= 0])
        self._reach(int(nodes.max()))
        wanted = np.bincount(nodes, minlength=len(self._counts))
        for node in positions(self._counts[:, 0] + wanted > self._new_room).tolist():
            self._make_room(node, int(wanted[node]), int(ticks[nodes == node][0]))
        kept = positions(self._rank(nodes) < (self._new_room - self._counts[:, 0])[nodes])
        slots[kept] = self._index.insert(keys[kept])
        good = kept[slots[kept] >= 0]
        self._write(slots[good], nodes[good], ticks[good])
        lost = np.bincount(nodes[slots < 0], minlength=len(self._counts))
        for node in positions(lost > 0).tolist():
            self._count_shed(node, int(lost[node]))
        return slots

    def _write(self, slots: I64, nodes: I64, ticks: I64) -> None:
        needed = int(slots.max(initial=-1)) + 1
        if needed > len(self._heads):
            more = max(needed, 2 * len(self._heads)) - len(self._heads)
            self._heads = np.concatenate([self._heads, np.zeros((more, _HEAD), np.int64)])
            self.values = np.concatenate([self.values, np.zeros((more, self._width), np.int64)])
        self._heads[slots] = np.stack([nodes, ticks, ticks, np.zeros_like(nodes)], axis=1)
        self.values[slots] = 0
        self._counts[:, 0] += np.bincount(nodes, minlength=len(self._counts))

    def _make_room(self, node: int, wanted: int, tick: int) -> None:
        """Push out a node's longest untouched new keys; what was touched in this very tick stays."""
        slots = self._slots_of(node, known=0)
        touched = self._heads[slots, _TOUCHED]
        slots = slots[touched < tick]
        touched = touched[touched < tick]
        # Equal ticks are told apart by key, which does not depend on where a key stands.
        order = np.lexsort((self._index.keys(slots), touched))
        gone = slots[order[: max(0, int(self._counts[node, 0]) + wanted - self._new_room)]]
        self._count_shed(node, int((self._heads[gone, _TOUCHED] > tick - self._lifetime).sum()))
        self._remove(gone)

    def _forget_known(self, node: int, tick: int) -> None:
        slots = self._slots_of(node, known=1)
        self._remove(slots[self._heads[slots, _TOUCHED] <= tick - self._lifetime])

    def _slots_of(self, node: int, known: int) -> I64:
        slots = self._index.live()
        heads = self._heads[slots]
        found: I64 = slots[(heads[:, _NODE] == node) & (heads[:, _KNOWN] == known)]
        return found

    def _remove(self, slots: I64) -> None:
        if len(slots):
            heads = self._heads[slots]
            np.subtract.at(self._counts, (heads[:, _NODE], heads[:, _KNOWN]), 1)
            self._index.remove(slots)

    def _reach(self, node: int) -> None:
        if node >= len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros((node + 1 - len(self._counts), 2), np.int64)])

    def _rank(self, nodes: I64) -> I64:
        """Return how many entries of the same node stand before each."""
        rank: I64 = rank_by(nodes, len(self._counts))
        return rank

    def _count_shed(self, node: int, count: int) -> None:
        if count:
            self.shed[node] = self.shed.get(node, 0) + count

    def snapshot(self) -> dict[str, Array]:
        """Return the content as arrays, in order of node and key."""
        slots = self._index.live()
        keys = self._index.keys(slots)
        order = np.lexsort((keys, self._heads[slots, _NODE]))
        slots = slots[order]
        return {
            "keys": keys[order],
            "rows": np.concatenate([self._heads[slots], self.values[slots]], axis=1),
            "shed": np.array(sorted(self.shed.items()), np.int64).reshape(-1, 2),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take in what ``snapshot`` gave."""
        self._begin()
        self.shed = {int(node): int(count) for node, count in state["shed"]}
        rows = np.array(state["rows"], np.int64).reshape(-1, _HEAD + self._width)
        if not len(rows):
            return
        self._reach(int(rows[:, _NODE].max()))
        slots = self._index.insert(np.array(state["keys"], np.uint64))
        self._write(slots, rows[:, _NODE], rows[:, _TOUCHED])
        self._heads[slots], self.values[slots] = rows[:, :_HEAD], rows[:, _HEAD:]
        self._counts[:] = 0
        np.add.at(self._counts, (rows[:, _NODE], rows[:, _KNOWN]), 1)
