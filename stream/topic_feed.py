"""Reads one topic whole, then follows it; without a group, because every process needs all of it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.topics import TopicSpec
from schemas.word import Word, WordError
from stream.connection import client_arguments, unreachable
from stream.deadletters import printable
from stream.settings import KafkaSettings

log = structlog.get_logger("stream.topic_feed")

_RETRY_SECONDS = 2.0


W = TypeVar("W", bound=Word)
# Takes a record: offset, append time (ms since epoch), what it says (none: it cannot be read).
Apply = Callable[[int, int, W | None], None]


class TopicFeed(Generic[W]):
    """Gives every record of a topic's first partition to `apply`, in log order.

    `start` returns when what was on the topic at that moment has been applied, so that the first event is
    already judged with names. What cannot be read is logged and skipped; so is what `apply` refuses with
    ValueError.
    """

    def __init__(self, kafka: KafkaSettings, topic: TopicSpec, word: type[W], apply: Apply[W]) -> None:
        self._kafka = kafka
        self._word = word
        self._apply = apply
        self._name = topic.word
        self._place = TopicPartition(topic.name(kafka.prefix), 0)
        # Without a group there is no committed offset, so this alone begins at the beginning; seeking there
        # after `assign` races with the client's own reset to the end.
        self._consumer = AIOKafkaConsumer(
            **client_arguments(kafka, f"feed-{topic.word}"), enable_auto_commit=False, auto_offset_reset="earliest"
        )
        # Its own connection: a broker answers one only after the fetch that waits for news on it.
        self._asking = AIOKafkaConsumer(**client_arguments(kafka, f"feed-{topic.word}-end"), enable_auto_commit=False)
        self._task: asyncio.Task[None] | None = None
        self._arrived = asyncio.Condition()
        self._known_ms = 0
        self.next_offset = 0

    async def start(self) -> None:
        """Read everything that is there, then go on in the background.

        Raises:
            ConnectionProblem: the broker does not answer.
        """
        try:
            await self._consumer.start()
            await self._asking.start()
            self._consumer.assign([self._place])
            end = (await self._consumer.end_offsets([self._place]))[self._place]
            while await self._consumer.position(self._place) < end:
                await self._step()
        except (KafkaError, OSError) as error:
            raise unreachable(self._kafka, error) from None
        log.info("topic read", topic=self._name, records=self.next_offset)
        self._task = asyncio.create_task(self._follow())

    async def reach(self, appended_ms: int | None = None) -> None:
        """Wait until everything has been read that was appended up to a time, or up to now.

        While the broker does not answer it waits, as whoever asks would have to for its own topics.

        Args:
            appended_ms: append time of a record that was read already, ms since epoch.
        """
        if appended_ms is not None and appended_ms <= self._known_ms:
            return
        while True:
            try:
                end = (await self._asking.end_offsets([self._place]))[self._place]
                break
            except KafkaError as error:
                log.warning(
                    "the end of a topic is not known", topic=self._name, error=str(error), retry_s=_RETRY_SECONDS
                )
                await asyncio.sleep(_RETRY_SECONDS)
        async with self._arrived:
            await self._arrived.wait_for(lambda: self.next_offset >= end)
        self._known_ms = max(self._known_ms, appended_ms or 0)

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._consumer.stop()
        await self._asking.stop()

    async def _follow(self) -> None:
        while True:
            try:
                await self._step()
            except KafkaError as error:
                log.warning("topic cannot be followed", topic=self._name, error=str(error), retry_s=_RETRY_SECONDS)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _step(self) -> None:
        batches = await self._consumer.getmany(self._place, timeout_ms=500)
        for record in batches.get(self._place, []):
            item = None
            try:
                item = None if record.value is None else self._word.decode(record.value)
            except WordError as error:
                self._skipped(record.offset, error)
            try:
                self._apply(record.offset, record.timestamp, item)
            except ValueError as error:
                self._skipped(record.offset, error)
            self.next_offset = record.offset + 1
        async with self._arrived:
            self._arrived.notify_all()

    def _skipped(self, offset: int, error: Exception) -> None:
        log.warning("record skipped", topic=self._name, offset=offset, reason=printable(str(error)))
