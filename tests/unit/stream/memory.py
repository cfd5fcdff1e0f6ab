"""A broker in memory, as far as a host can see one: sends, snapshots and acknowledgements in one list."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stream.checkpoint import Snapshot, SnapshotIndex, snapshot_records
from stream.deadletters import DeadLetterLimit
from stream.host import Delivered, PartitionHost, Takeover
from stream.outbox import Outbox, Pending, SendFailed
from stream.records import Incoming, Outgoing
from stream.roles import Undecodable
from stream.settings import DeadLetterSettings, KafkaSettings, WorkerSettings
from stream.state_store import Restored, StateStore
from stream.telemetry import make_telemetry


@dataclass
class Broker:
    """`happened` holds what became visible, in order: ("sent", value), ("saved", offset), ("acked", offset)..."""

    happened: list[tuple[str, Any]] = field(default_factory=list)
    state: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    refuse: bool = False
    generation: int = 1
    committed: int | None = None
    acked: list[int] = field(default_factory=list)


class MemoryOutbox(Outbox):
    def __init__(self, broker: Broker) -> None:
        super().__init__(KafkaSettings(), WorkerSettings(), make_telemetry())
        self.broker = broker

    async def post(self, records: Iterable[Outgoing], pending: Pending) -> None:
        for record in records:
            future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            future.set_result(record)
            pending.add(future)

    async def durable(self, pending: Pending) -> None:
        if self.broker.refuse:
            message = "broker refuses"
            raise SendFailed(message)
        records = [f.result() for f in pending]
        self.broker.happened += sorted(("sent", (r.topic, r.value)) for r in records if isinstance(r, Outgoing))
        pending.clear()


class MemoryStates(StateStore):
    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    async def save(self, snapshot: Snapshot, replaced: Collection[bytes]) -> set[bytes]:
        records = list(snapshot_records(snapshot))
        self.broker.state += records
        self.broker.state += [(key, None) for key in replaced]
        self.broker.happened.append(("saved", snapshot.next_offset))
        return {key for key, _ in records}

    async def load(self, agent: str, partitions: int, committed: Mapping[int, int | None]) -> dict[int, Restored]:
        found = {}
        for partition in committed:
            index = SnapshotIndex(agent, partition, partitions)
            for key, value in self.broker.state:
                index.add(key, value)
            found[partition] = Restored(index.best, index.keys, index.refused)
        return found


@dataclass(frozen=True)
class Token:
    offset: int
    generation: int


class MemoryAcker:
    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def current(self, token: Token) -> bool:
        return token.generation == self.broker.generation

    def ack(self, token: Token) -> None:
        self.broker.happened.append(("acked", token.offset))
        self.broker.acked.append(token.offset)

    async def commit(self) -> None:
        self.broker.committed = max(self.broker.acked) + 1
        self.broker.happened.append(("committed", self.broker.committed))


class Sum:
    """Adds numbers up."""

    def __init__(self) -> None:
        self.total = 0

    def snapshot(self) -> bytes:
        return str(self.total).encode()

    def restore(self, data: bytes) -> None:
        self.total = int(data)


class SumRole:
    name = "sum"
    topic = "events.v1"
    stateful = True

    def __init__(self) -> None:
        self.stages: list[Sum] = []

    def open(self, partition: int) -> Sum:
        self.stages.append(Sum())
        return self.stages[-1]

    def read(self, record: Incoming) -> int:
        text = (record.value or b"").decode()
        if not text.lstrip("-").isdecimal():
            message = f"not a number: {text}"
            raise Undecodable(message)
        return int(text)

    async def process(self, stage: Sum, words: Sequence[int], partition: int) -> Sequence[Outgoing]:
        sent = []
        for number in words:
            if number < 0:
                message = "negative"
                raise ArithmeticError(message)
            stage.total += number
            sent.append(Outgoing("alerts.v1", b"k", str(stage.total).encode()))
        return sent

    def announce(self, stage: Sum, *, quiet: bool) -> Sequence[Outgoing]:
        return [Outgoing("rollups.v1", b"k", b"idle" if quiet else b"empty")]


def make_host(broker: Broker, role: SumRole, *, limit: int = 10, **worker: Any) -> PartitionHost:
    return PartitionHost(
        role,
        4,
        MemoryOutbox(broker),
        MemoryStates(broker),
        MemoryAcker(broker),
        DeadLetterLimit("sum", DeadLetterSettings(limit=limit), lambda: 0.0),
        WorkerSettings(**worker),
        make_telemetry(),
    )


async def deliver(
    host: PartitionHost, broker: Broker, values: Mapping[int, str], generation: int = 0, together: bool = False
) -> None:
    """Deliver values by offset, as messages of the current (or the given) assignment."""
    delivered: list[Delivered] = []
    for offset, value in values.items():
        record = Incoming("t.events.v1", 0, offset, b"k", value.encode(), (), 0.0)
        delivered.append((record, Token(offset, generation or broker.generation)))
    for run in [delivered] if together else [[one] for one in delivered]:
        await host.handle(run)


def taken(broker: Broker, end: int = 100, begin: int = 0) -> dict[int, Takeover]:
    """Partition 0, assigned as the broker's commits say."""
    return {0: Takeover(broker.committed, begin, end)}
