"""End and committed offsets, asked independently of the consumers that are being watched."""

import asyncio
from collections.abc import Collection

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from stream.connection import client_arguments, unreachable
from stream.settings import KafkaSettings

_FETCH_BYTES = 5 << 20  # above the largest message
_FIRST_S = 10.0


class OffsetView:
    """See the module."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._consumer = AIOKafkaConsumer(**client_arguments(kafka, "offsets"), enable_auto_commit=False)
        self._admin = AIOKafkaAdminClient(**client_arguments(kafka, "offsets"))

    async def start(self) -> None:
        """Connect.

        Raises:
            ConnectionProblem: the broker does not answer.
        """
        try:
            await self._consumer.start()
            await self._admin.start()
        except (KafkaError, OSError) as error:
            await self.stop()
            raise unreachable(self._kafka, error) from None

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()
        await self._admin.close()

    async def spans(self, topic: str, partitions: Collection[int]) -> tuple[dict[int, int], dict[int, int]]:
        """First offset still kept and offset after the last record, of each partition.

        Raises:
            ConnectionProblem: the broker does not answer.
        """
        places = [TopicPartition(topic, p) for p in partitions]
        try:
            begins = await self._consumer.beginning_offsets(places)
            ends = await self._consumer.end_offsets(places)
        except KafkaError as error:
            raise unreachable(self._kafka, error) from None
        return {t.partition: o for t, o in begins.items()}, {t.partition: o for t, o in ends.items()}

    async def committed(self, group: str, topic: str, partitions: Collection[int]) -> dict[int, int | None]:
        """The group's committed offset of each partition; None where it never committed.

        Raises:
            ConnectionProblem: the broker does not answer.
        """
        places = [TopicPartition(topic, p) for p in partitions]
        try:
            found = await self._admin.list_consumer_group_offsets(group, partitions=places)
        except KafkaError as error:
            raise unreachable(self._kafka, error) from None
        offsets = {place.partition: meta.offset for place, meta in found.items()}
        return {p: offset if (offset := offsets.get(p, -1)) >= 0 else None for p in partitions}

    async def first_at(self, topic: str, partition: int, offset: int) -> int:
        """Return the offset of the first record at or after an offset; there must be one.

        Raises:
            ConnectionProblem: the broker does not answer.
        """
        place = TopicPartition(topic, partition)
        # Its own: a consumer has one position, and others wait for answers of the shared one.
        reader = AIOKafkaConsumer(**client_arguments(self._kafka, "offsets"), enable_auto_commit=False,
                                  auto_offset_reset="earliest", max_partition_fetch_bytes=_FETCH_BYTES)  # fmt: skip
        try:
            await reader.start()
            reader.assign([place])
            reader.seek(place, offset)
            async with asyncio.timeout(_FIRST_S):
                return int((await reader.getone()).offset)
        except (KafkaError, OSError, TimeoutError) as error:
            raise unreachable(self._kafka, error) from None
        finally:
            await reader.stop()
