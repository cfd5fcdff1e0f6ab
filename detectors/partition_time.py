"""Who is waited for in a partition: append time that counts, silence, and the slowest node."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

# The longest that a gap between two records counts. Live exporters speak every second, so a longer one is not their
# silence but the broker's, or everybody's.
LONGEST_GAP_MS = 2000


class ActiveTime:
    """Append time in which the partition was active, ms, and who was heard when.

    After an outage of the broker the first node to be back does not make the others silent: the gap counts for little.
    """

    def __init__(self) -> None:
        self.now = 0
        self._last: int | None = None
        self._heard: OrderedDict[int, int] = OrderedDict()  # by node number, the longest unheard first

    def advance(self, appended: int | None) -> int:
        """Take in a record's append time, ms since epoch; returns the active time."""
        if appended is not None:
            if self._last is not None:
                # Append time can step back when another broker takes the partition over.
                self.now += min(max(0, appended - self._last), LONGEST_GAP_MS)
            self._last = appended
        return self.now

    def hear(self, number: int) -> None:
        """Note that a node speaks now."""
        self._heard[number] = self.now
        self._heard.move_to_end(number)

    def forget(self, number: int) -> None:
        """Wait for a node no more."""
        self._heard.pop(number, None)

    def overdue(self, limit: int) -> list[int]:
        """Forget and return the nodes unheard for more than a limit in ms, the longest first."""
        out = []
        while self._heard:
            number, heard = next(iter(self._heard.items()))
            if self.now - heard <= limit:
                break
            del self._heard[number]
            out.append(number)
        return out

    def snapshot(self) -> list[Any]:
        """Return the state as JSON values."""
        return [self.now, self._last, list(self._heard.items())]

    def restore(self, state: list[Any]) -> None:
        """Take in what ``snapshot`` gave."""
        self.now, self._last, heard = state
        self._heard = OrderedDict((number, at) for number, at in heard)


class Slowest:
    """The lowest tick of a changing set of nodes, at O(log n) per tick closed.

    Ticks only grow, so an entry may be out of date as long as it is not on top, and is brought up to date there.
    """

    def __init__(self, tick_of: Callable[[int], int]) -> None:
        self._tick_of = tick_of
        self._heap: list[tuple[int, int]] = []
        self._entered: set[int] = set()
        self._members: set[int] = set()

    def __contains__(self, number: int) -> bool:
        return number in self._members

    def __len__(self) -> int:
        return len(self._members)

    def add(self, number: int) -> None:
        """Wait for a node from now on."""
        self._members.add(number)
        if number not in self._entered:
            self._entered.add(number)
            heapq.heappush(self._heap, (self._tick_of(number), number))

    def remove(self, number: int) -> None:
        """Wait for a node no more."""
        self._members.discard(number)

    def tick(self) -> int | None:
        """Return the lowest tick; none without nodes."""
        while self._heap:
            tick, number = self._heap[0]
            if number not in self._members:
                heapq.heappop(self._heap)
                self._entered.discard(number)
            elif (now := self._tick_of(number)) > tick:
                heapq.heapreplace(self._heap, (now, number))
            else:
                return tick
        return None

    def reset(self, number: int) -> None:
        """Drop every trace of a number that is given to another node, whose tick may be lower."""
        self.remove(number)
        self._entered.discard(number)
        self._heap = [entry for entry in self._heap if entry[1] != number]
        heapq.heapify(self._heap)

    def members(self) -> list[int]:
        """Return the nodes' numbers, ascending."""
        return sorted(self._members)
