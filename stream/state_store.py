"""Snapshots to and from state.v1, and what the broker knows about offsets."""

import asyncio
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from schemas.topics import STATE
from stream.checkpoint import Snapshot, SnapshotIndex, snapshot_records
from stream.connection import ConnectionProblem, client_arguments, unreachable
from stream.outbox import Outbox, Pending
from stream.records import Outgoing
from stream.settings import KafkaSettings

# Chunks in flight together: 8 MiB of memory beside the snapshot itself.
_CHUNKS_AT_ONCE = 16
# Records looked at from the end before looking further back; a snapshot of 64 MiB fits.
_FIRST_LOOK = 512
_READ_SECONDS = 30.0


@dataclass
class Restored:
    """What state.v1 holds for one partition: the snapshot to use, if any, and the keys to clear later."""

    snapshot: Snapshot | None
    keys: set[bytes] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)


class StateStore:
    """Reads and writes the snapshots of a process; one per process, used by all of its agents."""

    def __init__(self, kafka: KafkaSettings, state_partitions: int, outbox: Outbox) -> None:
        self._kafka = kafka
        self._topic = STATE.name(kafka.prefix)
        self._count = state_partitions
        self._outbox = outbox

    async def save(self, snapshot: Snapshot, replaced: Collection[bytes]) -> set[bytes]:
        """Make a snapshot durable, then clear the records it replaces; returns the new records' keys.

        Raises:
            SendFailed: it could not be made durable; the former snapshot is untouched.
        """
        place = self._place(snapshot.agent, snapshot.partition)
        written: set[bytes] = set()
        pending: Pending = set()
        records = list(snapshot_records(snapshot))
        for number, (key, value) in enumerate(records):
            if number == len(records) - 1 or number % _CHUNKS_AT_ONCE == 0:
                # The manifest, last of all, must not become durable before a chunk does.
                await self._outbox.durable(pending)
            await self._outbox.post([_state_record(key, value, place)], pending)
            written.add(key)
        await self._outbox.durable(pending)
        await self._outbox.post([_state_record(k, None, place) for k in sorted(set(replaced) - written)], pending)
        return written

    async def load(self, agent: str, partitions: int, committed: Mapping[int, int | None]) -> dict[int, Restored]:
        """The newest complete snapshot of each asked partition at or above its committed offset.

        Args:
            agent: whose snapshots.
            partitions: partition count of its input topic; snapshots made with another are refused.
            committed: asked partitions, each with its group's committed offset (None: never committed).

        Raises:
            ConnectionProblem: the broker does not answer.
        """
        consumer = AIOKafkaConsumer(**client_arguments(self._kafka, "state"), enable_auto_commit=False)
        try:
            await consumer.start()
            # Once for all: a second assign shortly before stop makes aiokafka 0.14 wait for its fetcher for ever.
            consumer.assign({TopicPartition(self._topic, self._place(agent, p)) for p in committed})
            return {
                p: await self._load_one(consumer, SnapshotIndex(agent, p, partitions), offset)
                for p, offset in committed.items()
            }
        except (KafkaError, OSError) as error:
            raise unreachable(self._kafka, error) from None
        finally:
            await consumer.stop()

    async def _load_one(self, consumer: AIOKafkaConsumer, index: SnapshotIndex, committed: int | None) -> Restored:
        place = TopicPartition(self._topic, self._place(index.agent, index.partition))
        begin = (await consumer.beginning_offsets([place]))[place]
        end = (await consumer.end_offsets([place]))[place]
        look = _FIRST_LOOK
        while True:
            start = max(begin, end - look)
            await _read(consumer, place, start, end, index)
            # A commit follows its snapshot, so one at or above the committed offset exists, perhaps further back.
            found = index.best is not None and index.best.next_offset >= (committed or 0)
            if found or start == begin:
                break
            look *= 8
            index = SnapshotIndex(index.agent, index.partition, index.partitions)
        return Restored(index.best if found else None, index.keys, index.refused)

    def _place(self, agent: str, partition: int) -> int:
        return (zlib.crc32(agent.encode()) + partition) % self._count


class OffsetView:
    """End and committed offsets, asked independently of the consumers that are being watched."""

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


async def _read(consumer: AIOKafkaConsumer, place: TopicPartition, start: int, end: int, index: SnapshotIndex) -> None:
    consumer.seek(place, start)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _READ_SECONDS
    while await consumer.position(place) < end:
        batches = await consumer.getmany(place, timeout_ms=500)
        for record in batches.get(place, []):
            index.add(record.key, record.value)
            deadline = loop.time() + _READ_SECONDS
        if loop.time() > deadline:
            message = f"{place.topic} partition {place.partition} gives no records for {_READ_SECONDS:.0f} s"
            raise ConnectionProblem(message)


def _state_record(key: bytes, value: bytes | None, place: int) -> Outgoing:
    return Outgoing(STATE.word, key, value, place, (("content-type", b"application/octet-stream"),))
