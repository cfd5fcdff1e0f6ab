"""What inventory.v1 said, in its order, so that who had an address is a question to the logs and not to the moment.

An event is judged with what was appended to inventory.v1 before the event itself was, by the brokers' clocks. That
is the same for every worker, whenever it reads, and after every restart. Stage 1 writes the offset that it judged
with into its rollups, and stage 2 judges a tick with the highest one that its senders name.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import suppress

from schemas.exceptions import RoleRule
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject


class InventoryLog:
    """Every record of inventory.v1 that is still kept, by offset. Append-only; read by all stages of a process."""

    def __init__(self) -> None:
        self._begin: int | None = None
        self._items: list[InventoryObject | None] = []
        self._appended: list[int] = []  # ms since epoch, never falling

    def take(self, offset: int, appended_ms: int, item: InventoryObject | None) -> None:
        """Take the next record; `item` is none where it holds nothing that can be read.

        Raises:
            ValueError: an address of it is none; its place is kept, and it says nothing.
        """
        self._begin = offset if self._begin is None else self._begin
        last = self._appended[-1] if self._appended else 0
        # Offsets that are missing (retention, a marker) say nothing either.
        for _ in range(self._begin + len(self._items), offset + 1):
            self._items.append(None)
            self._appended.append(max(last, appended_ms))
        if item is not None:
            IdentityTable([item])
            self._items[-1] = item

    def offset_at(self, appended_ms: int) -> int:
        """Return the next offset after what an event of this append time is judged with."""
        return (self._begin or 0) + bisect_left(self._appended, appended_ms)

    def between(self, begin: int, end: int) -> Iterator[InventoryObject]:
        """Give what the records from one offset to before another say."""
        first = self._begin or 0
        for item in self._items[max(0, begin - first) : max(0, end - first)]:
            if item is not None:
                yield item


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
