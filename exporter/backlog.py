"""Delivery that does not give up: what the broker does not take waits, in memory and then on disk.

The sources go on whatever the broker does. Messages leave in their order; after an outage some may be sent twice, which
readers recognise by boot and sequence. What is dropped for want of room is a gap in the sequence, so readers count it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from exporter.delivery import Delivery, DeliveryError
from exporter.settings import LiveSettings
from exporter.spool import Spool
from schemas.event_codec import EventDecodeError, EventMessage, decode, encode
from schemas.inventory import InventoryObject

_TOGETHER = 32  # messages on their way at once
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 10.0
_OVERHEAD = 1024  # bytes of a message beside its columns


class SettledDelivery(Delivery, Protocol):
    """A delivery that can tell when everything it was given is durable."""

    async def settle(self) -> None:
        """Wait until everything sent is durable.

        Raises:
            DeliveryError: something was not taken.
        """


@dataclass
class BacklogState:
    """What waits and what was lost.

    Attributes:
        waiting_bytes: in memory.
        spooled_bytes: on disk.
        dropped: messages dropped for want of room, so far.
        problem: why the broker does not take messages; empty while it does.
    """

    waiting_bytes: int = 0
    spooled_bytes: int = 0
    dropped: int = 0
    problem: str = ""


class Backlog:
    """A delivery in front of another one that comes and goes.

    Args:
        connect: makes a delivery that is not open yet; called again after each failure.
        settings: sizes and time-outs.
    """

    def __init__(self, connect: Callable[[], SettledDelivery], settings: LiveSettings) -> None:
        self._connect = connect
        self._settings = settings
        self._spool = Spool(settings.spool, settings.spool_bytes) if settings.spool is not None else None
        self._waiting: deque[tuple[EventMessage, int]] = deque()
        self._bytes = 0
        self._more, self._ending = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._dropped = 0
        self._problem = ""

    @property
    def state(self) -> BacklogState:
        """What waits and what was lost."""
        spool = self._spool
        dropped = self._dropped + (spool.dropped if spool else 0)
        return BacklogState(self._bytes, spool.size if spool else 0, dropped, self._problem)

    async def open(self) -> None:
        """Begin to send; the broker need not be there."""
        self._task = asyncio.create_task(self._run())

    async def identify(self, objects: Sequence[InventoryObject]) -> None:
        """Live sources tell no identities."""

    async def send(self, message: EventMessage) -> None:
        """Take a message; never waits."""
        if self._task is not None and self._task.done():
            # It ends by itself only where something happened that nobody foresaw.
            self._task.result()
        size = _OVERHEAD + sum(batch.nbytes for batch in message.batches.values())
        if self._spool is not None and (self._spool or self._bytes + size > self._settings.memory_bytes):
            # Once some are on disk, all later ones follow them there, so that the order is kept.
            self._keep([encode(message)])
        else:
            self._waiting.append((message, size))
            self._bytes += size
            while self._bytes > self._settings.memory_bytes and len(self._waiting) > 1:
                self._bytes -= self._waiting.popleft()[1]
                self._dropped += 1
        self._more.set()

    def _keep(self, values: list[bytes], *, first: bool = False) -> None:
        try:
            if self._spool is None:
                self._dropped += len(values)
            elif first:
                self._spool.add_first(values)
            else:
                self._spool.add(values)
        except DeliveryError as error:
            self._problem = str(error)
            self._dropped += len(values)

    async def _run(self) -> None:
        wait = _FIRST_WAIT
        delivery: SettledDelivery | None = None
        while True:
            try:
                if delivery is None:
                    made = self._connect()
                    await made.open()
                    delivery, wait = made, _FIRST_WAIT
                await self._send_waiting(delivery)
                self._problem = ""
                if self._ending.is_set() and not self._waiting and not self._spool:
                    await delivery.close(True)
                    return
                await self._more.wait()
                self._more.clear()
            except DeliveryError as error:
                self._problem = str(error)
                if delivery is not None:
                    with suppress(DeliveryError):
                        await delivery.close(False)
                    delivery = None
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)

    async def _send_waiting(self, delivery: SettledDelivery) -> None:
        while self._waiting or self._spool:
            if not self._waiting:
                await self._send_spooled(delivery)
                continue
            some = [self._waiting[number] for number in range(min(_TOGETHER, len(self._waiting)))]
            for message, _ in some:
                await delivery.send(message)
            await delivery.settle()
            # While they were on their way, the oldest may have been dropped for want of room.
            for entry in some:
                if self._waiting and self._waiting[0] is entry:
                    self._waiting.popleft()
                    self._bytes -= entry[1]

    async def _send_spooled(self, delivery: SettledDelivery) -> None:
        spool = self._spool
        if spool is None:
            return
        spool.seal()
        file = spool.first
        values = spool.oldest()
        for start in range(0, len(values), _TOGETHER):
            for value in values[start : start + _TOGETHER]:
                try:
                    message = decode(value)
                except EventDecodeError:
                    self._dropped += 1
                    continue
                await delivery.send(message)
            await delivery.settle()
        # Unless it was let go meanwhile, to make room.
        if spool.first == file:
            spool.forget_oldest()

    async def close(self, complete: bool) -> None:
        """Wait for the broker as long as the settings say, then keep the rest on disk, or drop and say so.

        Raises:
            DeliveryError: messages were dropped at the end.
        """
        if self._task is None:
            return
        self._ending.set()
        self._more.set()
        task, self._task = self._task, None
        await asyncio.wait({task}, timeout=self._settings.stop_seconds)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        rest = [encode(message) for message, _ in self._waiting]
        self._waiting.clear()
        self._bytes = 0
        before = self._dropped
        if rest:
            self._keep(rest, first=True)
        if self._spool is not None:
            self._spool.close()
        if self._dropped > before and complete:
            problem = f"{self._dropped - before} messages could not be delivered before the end: {self._problem}"
            raise DeliveryError(problem)
