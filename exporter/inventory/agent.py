"""The inventory agent: a source's statements to the topic, with watermarks."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from exporter.delivery import DeliveryError
from exporter.inventory.settings import InventorySettings
from exporter.inventory.source import Book, InventorySource
from exporter.inventory.statements import SETTINGS, Statements
from schemas.inventory import InventoryObject, watermark
from schemas.word import MAX_WORD_BYTES

log = structlog.get_logger("exporter.inventory")

_BATCH = 2000  # statements sent before their acknowledgements are awaited


class InventoryDelivery(Protocol):
    """Where statements go; as much of ``exporter.delivery.Delivery`` as this agent needs."""

    async def identify(self, objects: Sequence[InventoryObject]) -> None:
        """Make statements durable, in their order. Raises DeliveryError."""


class InventoryAgent:
    """Says what a source tells, and up to when that is everything.

    Args:
        source: of objects.
        delivery: of statements; it is open.
        cluster: name of the cluster.
        settings: limits and intervals.
        clock: returns s since epoch.
        known: what was said before this process began, in the order of the topic.
    """

    def __init__(
        self, source: InventorySource, delivery: InventoryDelivery, cluster: str, settings: InventorySettings,
        clock: Callable[[], float], known: Iterable[InventoryObject] = (),
    ) -> None:  # fmt: skip
        self._source = source
        self._delivery = delivery
        self._cluster = cluster
        self._settings = settings
        self._clock = clock
        self.book = Book(Statements(known), settings.pending)
        self.watermark = -1  # last one that is durable
        self.too_large = 0  # statements that no reader of the topic would take
        self._problem = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Run until told to stop; what is pending then is tried once more."""
        tell_ranges(self.book.statements, self._cluster, self._settings, self._clock())
        async with asyncio.TaskGroup() as tasks:
            source = tasks.create_task(self._source.run(self.book))
            restated = self._clock()
            while not stop.is_set():
                if self._clock() - restated >= self._settings.restate_s:
                    restated = self._clock()
                    self.book.statements.restate()
                await self._flush()
                # On the second: a worker that waits for the watermark of the cut just made does not wait longer.
                flush = self._settings.flush_s
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), flush - self._clock() % flush)
            source.cancel()
        await self._flush()

    async def _flush(self) -> None:
        """Send what is pending, then the watermark; what the broker does not take stays pending."""
        now, full = self._clock(), self.book.full
        cut = math.floor(self._source.known_until(now))
        try:
            said = await self._send(self.book.statements.waiting)
            passed = cut - self.watermark
            if not full and passed > 0 and (said or passed >= self._settings.watermark_s):
                await self._delivery.identify([watermark(self._cluster, cut)])
                self.watermark = cut
            self._problem = ""
        except DeliveryError as error:
            if not self._problem:
                log.warning("inventory waits for the broker", error=str(error), pending=self.book.statements.waiting)
            self._problem = str(error)

    async def _send(self, most: int) -> int:
        sent = 0
        while sent < most and (items := self.book.statements.take(min(_BATCH, most - sent))):
            small = [item for item in items if len(item.encode()) <= MAX_WORD_BYTES]
            self.too_large += len(items) - len(small)
            await self._delivery.identify(small)
            self.book.sent(items)
            sent += len(items)
        return sent

    def problems(self) -> list[str]:
        """Return a line for each thing that keeps the inventory from being complete on the topic."""
        return [*self._source.problems(), *([self._problem] if self._problem else [])]


def tell_ranges(statements: Statements, cluster: str, settings: InventorySettings, at: float) -> None:
    """Tell the ranges that the operator declares; those declared no more have ended."""
    declared: dict[str, list[InventoryObject]] = {}
    for role, texts in (("internal", settings.internal), ("shared", settings.shared)):
        for text in texts:
            uid = f"{SETTINGS}:{cluster}:{role}:{text.replace('/', '_')}"[-128:]
            item = InventoryObject.model_validate({
                "kind": "Range", "uid": uid, "cluster": cluster, "name": f"declared {role}", "ips": (text,),
                "role": role,
            })  # fmt: skip
            declared[uid] = [item]
    for uid, items in declared.items():
        statements.tell(SETTINGS, uid, items, at)
    statements.only(SETTINGS, declared, at)
