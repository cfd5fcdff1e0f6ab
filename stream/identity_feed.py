"""Reads inventory.v1 whole, then follows it; without a group, because every worker needs all of it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.inventory import InventoryObject
from schemas.topics import INVENTORY
from schemas.word import WordError
from stream.connection import client_arguments, unreachable
from stream.deadletters import printable
from stream.settings import KafkaSettings

log = structlog.get_logger("stream.identity_feed")

_RETRY_SECONDS = 2.0


class IdentityFeed:
    """Gives every object on inventory.v1 to `apply`, in log order.

    `start` returns when what was on the topic at that moment has been applied, so that the first event is
    already judged with names. What cannot be read is logged and skipped; so is what `apply` refuses with
    ValueError.
    """

    def __init__(self, kafka: KafkaSettings, apply: Callable[[InventoryObject], None]) -> None:
        self._kafka = kafka
        self._apply = apply
        self._place = TopicPartition(INVENTORY.name(kafka.prefix), 0)
        # Without a group there is no committed offset, so this alone begins at the beginning; seeking there
        # after `assign` races with the client's own reset to the end.
        self._consumer = AIOKafkaConsumer(
            **client_arguments(kafka, "identity"), enable_auto_commit=False, auto_offset_reset="earliest"
        )
        self._task: asyncio.Task[None] | None = None
        self.next_offset = 0

    async def start(self) -> None:
        """Read everything that is there, then go on in the background.

        Raises:
            ConnectionProblem: the broker does not answer.
        """
        try:
            await self._consumer.start()
            self._consumer.assign([self._place])
            end = (await self._consumer.end_offsets([self._place]))[self._place]
            while await self._consumer.position(self._place) < end:
                await self._step()
        except (KafkaError, OSError) as error:
            raise unreachable(self._kafka, error) from None
        log.info("inventory read", objects=self.next_offset)
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._consumer.stop()

    async def _follow(self) -> None:
        while True:
            try:
                await self._step()
            except KafkaError as error:
                log.warning("inventory cannot be followed", error=str(error), retry_s=_RETRY_SECONDS)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _step(self) -> None:
        batches = await self._consumer.getmany(self._place, timeout_ms=500)
        for record in batches.get(self._place, []):
            self.next_offset = record.offset + 1
            if record.value is None:
                continue
            try:
                self._apply(InventoryObject.decode(record.value))
            except (WordError, ValueError) as error:
                log.warning("inventory object skipped", offset=record.offset, reason=printable(str(error)))
