"""Exact sets of ports, as disjoint intervals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LAST_PORT = 65535
_WHOLE = ((0, LAST_PORT),)


@dataclass(frozen=True, slots=True)
class PortSet:
    """A set of ports 0..65535.

    `intervals` are inclusive, sorted, disjoint and never adjacent, so equal sets compare equal. Build one with
    `PortSet.of`, which brings any intervals into that form.
    """

    intervals: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, intervals: Iterable[tuple[int, int]]) -> PortSet:
        """The union of inclusive `(low, high)` intervals, given in any order and overlapping or not."""
        joined: list[tuple[int, int]] = []
        for low, high in sorted(intervals):
            if joined and low <= joined[-1][1] + 1:
                joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
            else:
                joined.append((low, high))
        return cls(tuple(joined))

    # Nearly all sets of a proof are none or all ports, so these are answered before anything is computed.

    def __or__(self, other: PortSet) -> PortSet:
        if not self.intervals or other.intervals == _WHOLE:
            return other
        if not other.intervals or self.intervals == _WHOLE:
            return self
        return PortSet.of(self.intervals + other.intervals)

    def __sub__(self, other: PortSet) -> PortSet:
        if not self.intervals or not other.intervals:
            return self
        if other.intervals == _WHOLE:
            return NO_PORTS
        left = list(self.intervals)
        for cut_low, cut_high in other.intervals:
            rest: list[tuple[int, int]] = []
            for low, high in left:
                if low < cut_low:
                    rest.append((low, min(high, cut_low - 1)))
                if high > cut_high:
                    rest.append((max(low, cut_high + 1), high))
            left = rest
        return PortSet.of(left)

    def __and__(self, other: PortSet) -> PortSet:
        if not self.intervals or other.intervals == _WHOLE:
            return self
        if not other.intervals or self.intervals == _WHOLE:
            return other
        return self - (self - other)

    def __contains__(self, port: int) -> bool:
        return any(low <= port <= high for low, high in self.intervals)

    def __bool__(self) -> bool:
        return bool(self.intervals)

    def example(self) -> int:
        """The smallest port that people use, so 0 only where there is no other; raises IndexError if empty."""
        low, high = self.intervals[0]
        if low > 0 or (high == 0 and len(self.intervals) == 1):
            return low
        return 1 if high > 0 else self.intervals[1][0]


ALL_PORTS = PortSet(_WHOLE)
NO_PORTS = PortSet()
