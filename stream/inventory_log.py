"""What inventory.v1 said, in its order, so that who had an address is a question to the logs and not to the moment.

An event is judged with what was appended to inventory.v1 before the event itself was, by the brokers' clocks. That
is the same for every worker, whenever it reads, and after every restart. Stage 1 writes the offset that it judged
with into its rollups, and stage 2 judges a tick with the highest one that its senders name.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import suppress

from schemas.exceptions import RoleRule
from schemas.identity import HORIZON_SECONDS, MOST_STATEMENTS, IdentityTable
from schemas.inventory import InventoryObject
from schemas.timeline import FOREVER

_COMPACT_AT = 10_000  # records, when what is over is first looked for


class InventoryLog:
    """The records of inventory.v1 that may still be asked for, by offset. Read by all stages of a process.

    What is told again in the same words is kept once. What ended ``HORIZON_SECONDS`` before the watermark is let go,
    as `IdentityTable` lets it go; above ``most`` records what ended first goes.
    """

    def __init__(self, most: int = 2 * MOST_STATEMENTS) -> None:
        self._most = most
        self._compact_at = min(most, _COMPACT_AT)
        self._begin: int | None = None
        self._next = 0
        self._offsets: list[int] = []
        self._appended: list[int] = []  # ms since epoch, never falling
        self._items: list[InventoryObject] = []
        self._latest: dict[str, InventoryObject] = {}  # by uid
        self._newest = IdentityTable()

    def counts(self) -> dict[str, int]:
        """Return how full a table is that knows all of it (`IdentityTable.counts`)."""
        return self._newest.counts()

    def __len__(self) -> int:
        return len(self._items)

    def take(self, offset: int, appended_ms: int, item: InventoryObject | None) -> None:
        """Take the next record; `item` is none where it holds nothing that can be read.

        Raises:
            ValueError: an address of it is none; it says nothing.
        """
        self._begin = offset if self._begin is None else self._begin
        self._next = offset + 1
        if item is None or self._latest.get(item.uid) == item:
            return
        self._newest.add(item)
        self._latest[item.uid] = item
        self._offsets.append(offset)
        self._appended.append(max(self._appended[-1] if self._appended else 0, appended_ms))
        self._items.append(item)
        if len(self._items) >= self._compact_at:
            self._compact()

    def offset_at(self, appended_ms: int) -> int:
        """Return the next offset after what an event of this append time is judged with."""
        place = bisect_left(self._appended, appended_ms)
        return self._offsets[place] if place < len(self._offsets) else self._next

    def between(self, begin: int, end: int) -> Iterator[InventoryObject]:
        """Give what the records from one offset to before another say."""
        first, last = (bisect_left(self._offsets, offset) for offset in (begin, end))
        yield from self._items[first:last]

    def _compact(self) -> None:
        """Let go of what no table would keep."""
        marks = [item for item in self._items if item.kind == "Watermark"]
        horizon = max((mark.valid_from for mark in marks), default=0) - HORIZON_SECONDS
        ends = self._ends()
        kept = [place for place, end in enumerate(ends) if end > horizon]
        if 2 * len(kept) > self._most:
            spare = sorted(kept, key=lambda place: (-ends[place], -place))[: self._most // 2]
            kept = sorted(spare)
        self._offsets, self._appended = [self._offsets[p] for p in kept], [self._appended[p] for p in kept]
        self._items = [self._items[p] for p in kept]
        self._latest = {item.uid: item for item in self._items}
        self._compact_at = min(self._most, max(_COMPACT_AT, 2 * len(kept)))

    def _ends(self) -> list[int]:
        """Return when each record stops to hold, s since epoch: at its end, or where a later one takes its place."""
        later: dict[str, int] = {}
        ends = [0] * len(self._items)
        for place in range(len(self._items) - 1, -1, -1):
            item = self._items[place]
            if item.kind == "Watermark":
                ends[place] = -FOREVER if item.uid in later else FOREVER
            else:
                ends[place] = min(FOREVER if item.valid_to is None else item.valid_to, later.get(item.uid, FOREVER))
            later[item.uid] = min(item.valid_from, later.get(item.uid, FOREVER))
        return ends


class LoggedIdentities(IdentityTable):
    """One stage's names: those of an inventory log up to an offset."""

    def __init__(self, log: InventoryLog, declared: Iterable[RoleRule]) -> None:
        super().__init__()
        self._log = log
        self.declare(declared)

    def pair(self, offset: int) -> None:
        """See `IdentityTable.pair`."""
        for item in self._log.between(self.offset, offset):
            with suppress(ValueError):  # said when it was read
                self.add(item)
        self.offset = max(self.offset, offset)
