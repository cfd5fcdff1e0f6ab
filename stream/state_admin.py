"""What operators ask about state.v1: which snapshots there are, and to take some away."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from schemas.topics import STATE
from stream.checkpoint import Found, SnapshotIndex, record_place
from stream.connection import client_arguments, group_name, unreachable
from stream.outbox import Outbox, Pending
from stream.records import Outgoing
from stream.settings import StreamSettings
from stream.state_store import state_reader
from stream.telemetry import make_telemetry
from stream.topics_admin import check_topics

_GROUPS = "groups"
_RETRY_SECONDS = 0.2


class StateInUse(Exception):
    """State of an agent that is running. One line, with the remedy."""


@dataclass(frozen=True)
class StateSummary:
    """One partition's state.

    Attributes:
        snapshot: the one that a start would use; None where none is whole.
        written_at: when it became whole, broker's time, s since the epoch.
        keys: all records, each with the partition of state.v1 where it lies.
        refused: why snapshots are not whole, one line each.
    """

    agent: str
    partition: int
    snapshot: Found | None
    written_at: float
    keys: dict[bytes, int] = field(repr=False)
    refused: tuple[str, ...] = ()

    @property
    def stored(self) -> int:
        """Bytes of chunks that a restore reads."""
        if self.snapshot is None:
            return 0
        return sum(c.size for c in (*self.snapshot.manifest.chunks, *self.snapshot.manifest.index))

    @property
    def chain(self) -> int:
        """Checkpoints that the snapshot is spread over."""
        return 0 if self.snapshot is None else len({c.next_offset for c in self.snapshot.manifest.chunks})


async def read_states(stream: StreamSettings) -> list[StateSummary]:
    """All state on the broker, by agent and partition.

    Raises:
        ConnectionProblem: the broker does not answer.
        TopicMismatch: topics are missing or differ.
    """
    await check_topics(stream.kafka, stream.topics)
    topic = STATE.name(stream.kafka.prefix)
    places = [TopicPartition(topic, p) for p in range(stream.topics.state_partitions)]
    indexes: dict[tuple[str, int], tuple[SnapshotIndex, int]] = {}
    written: dict[bytes, float] = {}
    async with state_reader(stream.kafka, places) as reader:
        for place in places:
            async for record in reader.records(place, *await reader.span(place)):
                found = record_place(record.key)
                if found is None:
                    continue
                at = found.owner.agent, found.owner.partition
                index, _ = indexes.setdefault(at, (SnapshotIndex(*at, partitions=None), place.partition))
                index.add(record.key, record.value, record.offset)
                if found.part == "manifest":
                    written[record.key] = record.timestamp / 1000
    return [_summary(index, lies, written) for _, (index, lies) in sorted(indexes.items()) if index.keys]


async def drop_states(stream: StreamSettings, states: Sequence[StateSummary]) -> int:
    """Take away everything of these partitions; returns the number of records.

    Raises:
        ConnectionProblem: the broker does not answer.
        StateInUse: an agent's group has members; nothing was taken away.
        SendFailed: the broker refused.
    """
    for agent in sorted({state.agent for state in states}):
        group = group_name(stream.kafka.prefix, agent)
        if members := await _members(stream, group):
            message = (
                f"agent {agent} is running: its group {group} has {members} members; stop the workers, or wait "
                f"{stream.worker.session_timeout_s:g} s after a killed one, then try again"
            )
            raise StateInUse(message)
    outbox = await Outbox(stream.kafka, stream.worker, make_telemetry()).start()
    pending: Pending = set()
    try:
        records = [Outgoing(STATE.word, key, None, lies) for s in states for key, lies in sorted(s.keys.items())]
        await outbox.post(records, pending)
        await outbox.durable(pending)
    finally:
        await outbox.stop()
    return len(records)


def _summary(index: SnapshotIndex, lies: int, written: dict[bytes, float]) -> StateSummary:
    whole = index.complete()
    best = whole[0] if whole else None
    at = written[best.owner.manifest_key(best.manifest.next_offset)] if best else 0.0
    return StateSummary(index.agent, index.partition, best, at, dict.fromkeys(index.keys, lies), tuple(index.refused))


async def _members(stream: StreamSettings, group: str) -> int:
    admin = AIOKafkaAdminClient(**client_arguments(stream.kafka, "state"))
    try:
        await admin.start()
        responses = await asyncio.wait_for(_described(admin, group), stream.kafka.request_timeout_s)
    except (KafkaError, OSError, TimeoutError) as error:
        raise unreachable(stream.kafka, error) from None
    finally:
        await admin.close()
    return sum(len(one["members"]) for response in responses for one in response.to_object()[_GROUPS])


async def _described(admin: AIOKafkaAdminClient, group: str) -> list[Any]:
    while True:
        try:
            return list(await admin.describe_consumer_groups([group]))
        except GroupCoordinatorNotAvailableError:
            # A broker that never had a group makes the place for them at the first question.
            await asyncio.sleep(_RETRY_SECONDS)
