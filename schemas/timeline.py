"""Who had one address, or declared one range, at which time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from schemas.inventory import InventoryObject

FOREVER = 1 << 62  # s since epoch; the end of what has none


@dataclass(frozen=True, slots=True)
class Span:
    """An object and the seconds for which a statement about it holds: from ``begin`` up to, not including, ``end``."""

    begin: int
    uid: str
    end: int
    item: InventoryObject


class Timeline:
    """Spans of one address; where they overlap, the one that began last answers, then the greater uid.

    A look-up is a bisection and steps back only over spans that some later one outlasts: a thousand pods that had
    an address one after the other cost no more than one.
    """

    __slots__ = ("_begins", "_lasting", "_spans")

    def __init__(self) -> None:
        self._spans: list[Span] = []  # ascending by begin and uid
        self._begins: list[int] = []  # theirs
        self._lasting: list[int] = []  # the latest end among a span and those before it, as far as it is known

    def __len__(self) -> int:
        return len(self._spans)

    def insert(self, span: Span) -> None:
        """Take in a span; its (begin, uid) is new here."""
        place = bisect_right(self._spans, _order(span), key=_order)
        self._spans.insert(place, span)
        self._begins.insert(place, span.begin)
        del self._lasting[place:]

    def remove(self, begin: int, uid: str) -> None:
        """Let go of a span; nothing happens where there is none."""
        place = bisect_left(self._spans, (begin, uid), key=_order)
        if place < len(self._spans) and _order(self._spans[place]) == (begin, uid):
            del self._spans[place], self._begins[place]
            del self._lasting[place:]

    def at(self, time: int) -> InventoryObject | None:
        """Return the object of a time (s since epoch), or none."""
        if len(self._lasting) < len(self._spans):
            self._extend()
        place = bisect_right(self._begins, time) - 1
        while place >= 0 and self._lasting[place] > time:
            if self._spans[place].end > time:
                return self._spans[place].item
            place -= 1
        return None

    def around(self, time: int) -> tuple[int, int]:
        """Return from when to before when ``at`` gives the same as at a time, or a part of that; s since epoch."""
        edges = [0, FOREVER, *self._begins, *(span.end for span in self._spans)]
        return max(e for e in edges if e <= time), min(e for e in edges if e > time)

    def _extend(self) -> None:
        last = self._lasting[-1] if self._lasting else 0
        for span in self._spans[len(self._lasting) :]:
            last = max(last, span.end)
            self._lasting.append(last)


def _order(span: Span) -> tuple[int, str]:
    return span.begin, span.uid
