"""Snapshots to and from state.v1."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from detectors.snapshot import Section, SnapshotError
from schemas.state import ChunkPlace
from schemas.topics import STATE
from stream.checkpoint import CLAIM, Found, Owner, SnapshotIndex, StateMismatch, claim_key, is_whole
from stream.connection import ConnectionProblem, client_arguments, unreachable
from stream.outbox import Outbox, Pending
from stream.pages import Assembly
from stream.records import Outgoing
from stream.settings import KafkaSettings, WorkerSettings

# Bytes of chunks in flight together: the memory that a checkpoint takes beside the state itself.
_IN_FLIGHT = 32 << 20
# Records looked at from the end before looking further back.
_FIRST_LOOK = 512
_READ_SECONDS = 30.0
_FETCH_WAIT_MS = 10
_FETCH_BYTES = 8 << 20
# Second and third looks go back to the beginning: the newest snapshot may be damaged, or the owner before may have
# cleared it while we read, after replacing it.
_LOOKS = (_FIRST_LOOK, 1 << 62, 1 << 62)


@dataclass
class Restored:
    """What state.v1 holds for one partition that we claimed.

    Attributes:
        owner: we, as the writer of what comes.
        next_offset: first input offset that the state does not contain; None where there is no state.
        sections: the state.
        keys: records of former owners, to be cleared once we have replaced them.
        refused: why snapshots were not used, one line each.
    """

    owner: Owner
    next_offset: int | None = None
    sections: dict[str, Section] = field(default_factory=dict)
    keys: set[bytes] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)


class StateStore:
    """Reads and writes the snapshots of a process; one per process, used by all of its agents."""

    def __init__(self, kafka: KafkaSettings, state_partitions: int, outbox: Outbox, worker: WorkerSettings) -> None:
        self._kafka = kafka
        self._topic = STATE.name(kafka.prefix)
        self._count = state_partitions
        self._outbox = outbox
        self._most = worker.checkpoint_bytes

    async def post(self, owner: Owner, key: bytes, value: bytes | None, pending: Pending) -> None:
        """Send one record (None: take it away); waits while too much is in flight.

        Raises:
            SendFailed: it, or one waited for, could not be made durable.
        """
        if value is not None and len(pending) * len(value) > _IN_FLIGHT:
            await self._outbox.durable(pending)
        record = Outgoing(STATE.word, key, value, self._place(owner.agent, owner.partition), _HEADERS)
        await self._outbox.post([record], pending)

    async def claim(self, agent: str, partition: int) -> Owner:
        """Say on state.v1 that the partition is ours from now on.

        Raises:
            SendFailed: it could not be made durable.
        """
        while True:
            pending: Pending = set()
            record = Outgoing(STATE.word, claim_key(agent, partition), CLAIM, self._place(agent, partition), _HEADERS)
            await self._outbox.post([record], pending)
            sent = list(pending)
            await self._outbox.durable(pending)
            epoch = int(getattr(sent[0].result(), "offset", -1)) if sent else -1
            # A send that was repeated by the client may be confirmed without its offset.
            if epoch >= 0:
                return Owner(agent, partition, epoch)

    async def load(self, agent: str, partitions: int, asked: Mapping[int, tuple[int, int]]) -> dict[int, Restored]:
        """Claim partitions and read the newest complete snapshot of each.

        Args:
            agent: whose snapshots.
            partitions: partition count of its input topic.
            asked: partitions, each with the lowest and the highest next offset that may be used: what its group
                has committed, and the end of its topic.

        Raises:
            ConnectionProblem: the broker does not answer.
            SendFailed: a claim could not be made durable.
            StateMismatch: there is no such snapshot, but one made with another partition count.
        """
        owners = {p: await self.claim(agent, p) for p in asked}
        places = {TopicPartition(self._topic, self._place(agent, p)) for p in asked}
        async with state_reader(self._kafka, places) as reader:
            return {p: await self._load_one(reader, owners[p], partitions, asked[p]) for p in asked}

    async def _load_one(
        self, reader: "StateReader", owner: Owner, partitions: int, bounds: tuple[int, int]
    ) -> Restored:
        place = TopicPartition(self._topic, self._place(owner.agent, owner.partition))
        refused: list[str] = []
        for look in _LOOKS:
            index, found = await self._find(reader, place, owner, partitions, bounds, look)
            refused += index.refused
            for one in found:
                try:
                    sections = await load_found(reader, place, one, self._most)
                except SnapshotError as error:
                    refused.append(f"snapshot {owner.agent}/{owner.partition} at {one.manifest.next_offset}: {error}")
                    continue
                return Restored(
                    owner, one.manifest.next_offset, sections, set(index.keys), list(dict.fromkeys(refused))
                )
            if not found:
                break
        if index.mismatch is not None:
            raise StateMismatch(index.mismatch)
        return Restored(owner, keys=set(index.keys), refused=list(dict.fromkeys(refused)))

    async def _find(
        self, reader: "StateReader", place: TopicPartition, owner: Owner, partitions: int, bounds: tuple[int, int],
        look: int,
    ) -> tuple[SnapshotIndex, list[Found]]:  # fmt: skip
        begin, end = await reader.span(place)
        while True:
            start = max(begin, end - look)
            index = SnapshotIndex(owner.agent, owner.partition, partitions)
            async for record in reader.records(place, start, end):
                index.add(record.key, record.value, record.offset)
            # A commit follows its snapshot, so one at or above the committed offset exists, perhaps further back.
            found = index.complete(*bounds)
            if found or start == begin:
                return index, found
            look *= 8

    def _place(self, agent: str, partition: int) -> int:
        return state_place(agent, partition, self._count)


_HEADERS = (("content-type", b"application/octet-stream"),)


def state_place(agent: str, partition: int, state_partitions: int) -> int:
    """The partition of state.v1 where an agent's partition has its records."""
    return (zlib.crc32(agent.encode()) + partition) % state_partitions


class StateReader:
    """Reads ranges of state.v1."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer

    async def span(self, place: TopicPartition) -> tuple[int, int]:
        """First offset kept and offset after the last record."""
        begin = (await self._consumer.beginning_offsets([place]))[place]
        end = (await self._consumer.end_offsets([place]))[place]
        return int(begin), int(end)

    async def records(self, place: TopicPartition, start: int, end: int) -> AsyncIterator[ConsumerRecord]:
        """The records of a range, in order.

        Raises:
            ConnectionProblem: none come for too long.
        """
        self._consumer.seek(place, start)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _READ_SECONDS
        while await self._consumer.position(place) < end:
            batches = await self._consumer.getmany(place, timeout_ms=500)
            for record in batches.get(place, []):
                if record.offset >= end:
                    return
                yield record
                deadline = loop.time() + _READ_SECONDS
            if loop.time() > deadline:
                message = f"{place.topic} partition {place.partition} gives no records for {_READ_SECONDS:.0f} s"
                raise ConnectionProblem(message)

    async def chunks(
        self, place: TopicPartition, found: Found, wanted: Iterable[ChunkPlace]
    ) -> AsyncIterator[tuple[ChunkPlace, bytes]]:
        """The chunks of a snapshot, in log order.

        Raises:
            SnapshotError: one is damaged or no longer there.
        """
        left = {found.owner.chunk_key(chunk): chunk for chunk in wanted}
        offsets = [found.offsets[key] for key in left]
        if not left:
            return
        async for record in self.records(place, min(offsets), max(offsets) + 1):
            chunk = left.get(record.key)
            if chunk is None or record.value is None:
                continue
            del left[record.key]
            if not is_whole(chunk, record.value):
                message = f"chunk {chunk.number} is damaged"
                raise SnapshotError(message)
            yield chunk, record.value
        if left:
            message = f"{len(left)} chunks were taken away meanwhile"
            raise SnapshotError(message)


@asynccontextmanager
async def state_reader(kafka: KafkaSettings, places: Iterable[TopicPartition]) -> AsyncIterator[StateReader]:
    """A reader of some partitions of state.v1.

    Raises:
        ConnectionProblem: the broker does not answer.
    """
    consumer = AIOKafkaConsumer(
        **client_arguments(kafka, "state"), enable_auto_commit=False,
        # A fetch that waits at the end of the topic holds up the one that goes back for the chunks.
        fetch_max_wait_ms=_FETCH_WAIT_MS, max_partition_fetch_bytes=_FETCH_BYTES,
    )  # fmt: skip
    try:
        await consumer.start()
        # Once for all: a second assign shortly before stop makes aiokafka 0.14 wait for its fetcher for ever.
        consumer.assign(set(places))
        yield StateReader(consumer)
    except (KafkaError, OSError) as error:
        raise unreachable(kafka, error) from None
    finally:
        await consumer.stop()


async def load_found(reader: StateReader, place: Any, found: Found, most: int) -> dict[str, Section]:
    """Read a snapshot that was found.

    Args:
        reader: of the topic.
        place: its partition.
        found: the snapshot.
        most: bytes that its state may have.

    Raises:
        SnapshotError: it is damaged, or larger.
    """
    manifest = found.manifest
    parts = {chunk.number: value async for chunk, value in reader.chunks(place, found, manifest.index)}
    assembly = Assembly(b"".join(parts[c.number] for c in manifest.index), manifest.page, most)
    async for chunk, value in reader.chunks(place, found, manifest.chunks):
        assembly.add(chunk.number, value)
    return assembly.sections()
