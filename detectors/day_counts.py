"""How often each source opened connections to each service within a day; bounded per node."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.grouping import Grouping
from detectors.index import I64, KeyIndex, positions

Array = npt.NDArray[Any]

BUCKETS = 12
SPAN = 7200  # s of one bucket; twelve are a day, so a day is exact to two hours
_MINUTE = 60  # s for which ticks are gathered before they are counted: a table touched once a minute costs little
_GATHERED = 1 << 16  # entries gathered above which they are counted at once, 6 MB

DAY_COUNT = np.dtype([
    ("key", np.uint64), ("service_key", np.uint64), ("src", np.uint8, 16), ("dst", np.uint8, 16), ("service", np.int64),
    ("since", np.int64), ("bucket", np.int64), ("opened", np.int64, BUCKETS), ("failed", np.int64, BUCKETS),
])  # fmt: skip

# What one tick says of one pair.
TICK_COUNT = np.dtype([
    ("key", np.uint64), ("service_key", np.uint64), ("src", np.uint8, 16), ("dst", np.uint8, 16), ("service", np.int64),
    ("opened", np.int64), ("failed", np.int64),
])  # fmt: skip


class DayCounts:
    """The counts of one node. Which slot a pair has never shows in a result.

    Without room the pairs with the fewest connections of the day give way, and lose nothing: a strobe has many.

    Attributes:
        shed: pairs that were not taken in.
    """

    def __init__(self, capacity: int) -> None:
        self._index = KeyIndex(capacity)
        self._capacity = capacity
        self.rows: Array = np.zeros(0, DAY_COUNT)
        self._waiting: list[Array] = []
        self._held = self._tick = 0
        self.shed = 0

    def __len__(self) -> int:
        return len(self._index)

    def gather(self, tick: int, rows: Array) -> I64:
        """Take in one tick; once a minute all that was gathered before it is counted.

        Args:
            tick: s since epoch; never goes back.
            rows: of ``TICK_COUNT``, whose keys may repeat.

        Returns:
            Slots of pairs that were counted now.
        """
        counted = np.zeros(0, np.int64)
        if self._waiting and (tick // _MINUTE > self._tick // _MINUTE or self._held >= _GATHERED):
            counted = self._count()
        self._waiting.append(rows)
        self._held += len(rows)
        self._tick = tick
        return counted

    def _gathered(self) -> npt.NDArray[np.uint8]:
        """Return what is gathered as bytes: records are put together field by field, which takes ten times as long."""
        return np.concatenate([np.zeros(0, np.uint8), *(rows.view(np.uint8) for rows in self._waiting)])

    def _count(self) -> I64:
        rows = self._gathered().view(TICK_COUNT)
        self._waiting, self._held = [], 0
        pairs = Grouping.equal(np.ascontiguousarray(rows["key"]))
        first = rows[pairs.first]
        opened, failed = (pairs.total(np.ascontiguousarray(rows[name])) for name in ("opened", "failed"))
        return self._add(first, self._tick, opened, failed)

    def _add(self, pairs: Array, tick: int, opened: I64, failed: I64) -> I64:
        keys = pairs["key"]
        absent = (self._index.lookup(keys) < 0) & (opened > 0)
        self._make_room(int(absent.sum()), tick)
        slots = self._index.lookup(keys)
        new = positions((slots < 0) & (opened > 0))
        slots[new] = self._index.insert(keys[new])
        taken = new[slots[new] >= 0]
        self.shed += len(new) - len(taken)
        self._grow(int(slots.max(initial=-1)) + 1)
        fresh, rows = slots[taken], self.rows
        rows[fresh] = np.zeros(1, DAY_COUNT)
        for name in ("key", "service_key", "src", "dst", "service"):
            rows[name][fresh] = pairs[name][taken]
        rows["since"][fresh], rows["bucket"][fresh] = tick, tick // SPAN
        kept = positions(slots >= 0)
        at, place = slots[kept], tick // SPAN % BUCKETS
        self._turn(at, tick // SPAN)
        rows["opened"][at, place] += opened[kept]
        rows["failed"][at, place] += failed[kept]
        return at

    def _turn(self, slots: I64, now: int) -> None:
        """Empty the buckets that come round again."""
        gap = np.minimum(now - self.rows["bucket"][slots], BUCKETS)
        for step in range(int(gap.max(initial=0))):
            late = slots[gap > step]
            self.rows["opened"][late, (now - step) % BUCKETS] = 0
            self.rows["failed"][late, (now - step) % BUCKETS] = 0
        self.rows["bucket"][slots] = now

    def _make_room(self, more: int, tick: int) -> None:
        over = len(self._index) + more - self._capacity
        if over <= 0:
            return
        live = self._index.live()
        self._turn(live, tick // SPAN)
        count = self.rows["opened"][live].sum(axis=1)
        order = live[np.lexsort((self.rows["key"][live], self.rows["since"][live], count))]
        # A quarter at once, so that a crowded table is not sorted every second; never one that is busy.
        few = order[: max(over, self._capacity // 4)]
        few = few[self.rows["opened"][few].sum(axis=1) <= self._calm(tick)]
        self._index.remove(few)

    @staticmethod
    def _calm(tick: int) -> int:
        """Return the connections of a day up to which a pair may give way: one in ten seconds of the bucket so far."""
        return max(8, tick % SPAN // 10)

    def _grow(self, needed: int) -> None:
        if needed > len(self.rows):
            size = min(self._capacity, max(64, 2 * needed))
            self.rows = np.concatenate([self.rows, np.zeros(size - len(self.rows), DAY_COUNT)])

    def callers(self, slot: int, least: int) -> int:
        """Return how many sources opened at least so many connections to the same service within the day."""
        live = self._index.live()
        same = live[self.rows["service_key"][live] == self.rows["service_key"][slot]]
        return int((self.rows["opened"][same].sum(axis=1) >= least).sum())

    def snapshot(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], int]:
        """Return the counts, by slot, and what is gathered, each as bytes, and the last tick."""
        return self._index.in_use(self.rows).view(np.uint8), self._gathered(), self._tick

    def restore(self, counts: npt.NDArray[np.uint8], waiting: npt.NDArray[np.uint8], tick: int) -> None:
        """Take in what ``snapshot`` gave."""
        rows = np.frombuffer(counts.tobytes(), DAY_COUNT)
        self._grow(len(rows))
        self.rows[self._index.insert(rows["key"])] = rows
        gathered = np.frombuffer(waiting.tobytes(), TICK_COUNT)
        self._waiting, self._held, self._tick = ([gathered] if len(gathered) else []), len(gathered), tick
