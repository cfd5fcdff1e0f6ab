"""Where an inventory comes from, as the agent sees it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from exporter.inventory.statements import Statements
from schemas.inventory import InventoryObject


class InventoryProblem(RuntimeError):
    """The inventory cannot be had; one line that names the place and the remedy."""


class Book:
    """What a source writes into: statements, with a limit on those that wait for the broker; and what went wrong.

    Args:
        statements: what holds.
        pending: statements above which ``room`` waits.
    """

    def __init__(self, statements: Statements, pending: int) -> None:
        self.statements = statements
        self._pending = pending
        self._sent = asyncio.Event()
        self.unreadable: Counter[str] = Counter()  # objects that do not have the shape of their kind, by kind
        self.restarts: Counter[str] = Counter()  # why a list or watch was begun again, by reason
        self.changes = 0  # told by the source, whether they meant something to the inventory or not

    @property
    def full(self) -> bool:
        """Whether sources wait, and changes with them."""
        return self.statements.waiting >= self._pending

    async def room(self) -> None:
        """Wait until what is told next will not pile up in memory."""
        while self.full:
            self._sent.clear()
            await self._sent.wait()

    def sent(self, items: Sequence[InventoryObject]) -> None:
        """Take in that statements are durable."""
        self.statements.sent(items)
        self._sent.set()


class InventorySource(Protocol):
    """Tells a book what is there. Times are s since epoch."""

    def owns(self, item: InventoryObject) -> bool:
        """Tell whether a statement of this cluster, told before this process began, is one of this source."""

    async def run(self, book: Book) -> None:
        """Tell everything and go on for ever; trouble is retried and shown by ``problems``."""

    async def once(self, book: Book) -> None:
        """Tell everything that is there now.

        Raises:
            InventoryProblem: it cannot be had.
        """

    def known_until(self, now: float) -> float:
        """Return up to when everything that was so has been told to the book; negative: nothing is known yet."""

    def problems(self) -> list[str]:
        """Return a line for each thing that keeps the inventory from being complete now."""
