"""Which (key, element) pairs were seen, and when last: exact distinct counts over sliding windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.hashing import U64, combine
from detectors.index import I64, KeyIndex, positions


@dataclass(frozen=True)
class PairChange:
    """What an update does to the owners' rings; positions index the update's arrays."""

    entered: I64  # pairs that now count in the present bucket
    left: I64  # pairs that no longer count in the bucket given beside
    left_bucket: I64
    shed: int


class PairTable:
    """Bounded; 24 bytes a pair beside the index."""

    def __init__(self, capacity: int, buckets: int) -> None:
        self._buckets = buckets  # of the window that is counted over
        self._index = KeyIndex(capacity)
        self._owner = np.zeros(0, np.int64)
        self._element: U64 = np.zeros(0, np.uint64)
        self._bucket = np.zeros(0, np.int64)
        self._cancelled = np.zeros(0, np.bool_)

    def __len__(self) -> int:
        return len(self._index)

    def update(self, owner_keys: U64, owners: I64, elements: U64, now: I64,
               cancel: npt.NDArray[np.bool_], room: npt.NDArray[np.bool_]) -> PairChange:  # fmt: skip
        """Record pairs, distinct within the call.

        Args:
            owner_keys: key of each pair's owner, u64.
            owners: slot of each pair's owner.
            elements: element hashes, u64.
            now: present bucket number of each owner.
            cancel: true where the pair is taken out of the count.
            room: false where the owner counts as many elements as it may; more are left out, by design.
        """
        keys = combine(owner_keys, elements)
        pair = self._index.lookup(keys)
        known = positions(pair >= 0)
        at = pair[known]
        fresh = now[known] - self._bucket[at] < self._buckets
        counted = fresh & ~self._cancelled[at]
        out = cancel[known]
        revived = ~fresh & ~out
        left = known[counted]
        left_bucket = self._bucket[at[counted]]
        entered = [known[(counted & ~out) | revived]]
        self._cancelled[at] = np.where(fresh, self._cancelled[at] | out, out)
        self._bucket[at] = now[known]
        absent = positions(pair < 0)
        added, shed = self._insert(keys, owners, elements, now, cancel, absent[room[absent]])
        entered.append(added[~cancel[added]])
        return PairChange(np.concatenate(entered), left, left_bucket, shed)

    def _insert(self, keys: U64, owners: I64, elements: U64, now: I64,
                cancel: npt.NDArray[np.bool_], rows: I64) -> tuple[I64, int]:  # fmt: skip
        if not len(rows):
            return rows, 0
        slots = self._index.insert(keys[rows])
        kept = slots >= 0
        rows, slots = rows[kept], slots[kept]
        if len(slots):
            self._grow(int(slots.max()) + 1)
            self._owner[slots] = owners[rows]
            self._element[slots] = elements[rows]
            self._bucket[slots] = now[rows]
            self._cancelled[slots] = cancel[rows]
        return rows, int((~kept).sum())

    def _grow(self, needed: int) -> None:
        if needed <= len(self._owner):
            return
        more = min(self._index.capacity, max(256, 2 * needed)) - len(self._owner)
        self._owner = np.concatenate([self._owner, np.zeros(more, np.int64)])
        self._element = np.concatenate([self._element, np.zeros(more, np.uint64)])
        self._bucket = np.concatenate([self._bucket, np.zeros(more, np.int64)])
        self._cancelled = np.concatenate([self._cancelled, np.zeros(more, np.bool_)])

    def forget_owners(self, lost: npt.NDArray[np.bool_]) -> None:
        """Take out the pairs of owners; ``lost`` is by owner slot."""
        live = self._index.live()
        self._index.remove(live[lost[self._owner[live]]])

    def sweep(self, now: int) -> None:
        """Take out pairs that left every window at bucket ``now``; counts do not change."""
        live = self._index.live()
        self._index.remove(live[now - self._bucket[live] >= self._buckets])

    def snapshot(self, rank: I64) -> dict[str, npt.NDArray[Any]]:
        """Return the pairs with their owners' ranks, ordered by (owner, element)."""
        live = self._index.live()
        owner = rank[self._owner[live]]
        order = np.lexsort((self._element[live], owner))
        live = live[order]
        return {"owner": owner[order], "element": self._element[live], "bucket": self._bucket[live],
                "cancelled": self._cancelled[live]}  # fmt: skip

    def restore(self, state: Mapping[str, npt.NDArray[Any]], slots: I64, keys: U64) -> None:
        """Take in what ``snapshot`` gave; ``slots`` and ``keys`` are the owners' by rank."""
        owner = state["owner"]
        rows = np.arange(len(owner))
        self._insert(combine(keys[owner], state["element"]), slots[owner], state["element"],
                     state["bucket"], state["cancelled"], rows)  # fmt: skip
