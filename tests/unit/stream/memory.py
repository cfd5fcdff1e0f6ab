"""A broker in memory, as far as a host can see one: sends, snapshots and acknowledgements in one list."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectors.snapshot import Section, SectionError, SnapshotError
from schemas.state import ChunkPlace
from stream.checkpoint import CLAIM, Found, Owner, SnapshotIndex, StateMismatch, claim_key, is_whole
from stream.deadletters import DeadLetterLimit
from stream.host import Delivered, PartitionHost, Takeover
from stream.outbox import Outbox, Pending, SendFailed
from stream.pages import Assembly
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
    refuse_commits: bool = False
    stop_at: bytes | None = None
    writable: asyncio.Event | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    generation: int = 1
    committed: int | None = None
    acked: list[int] = field(default_factory=list)
    kept: set[int] = field(default_factory=set)  # offsets beyond what is delivered


class MemoryOutbox(Outbox):
    def __init__(self, broker: Broker) -> None:
        super().__init__(KafkaSettings(), WorkerSettings(), make_telemetry())
        self.broker = broker

    async def post(self, records: Iterable[Outgoing], pending: Pending, caused_at: float | None = None) -> None:
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


Log = list[tuple[bytes, bytes | None]]


def index_of(log: Log, agent: str = "sum", partition: int = 0, partitions: int | None = 4) -> SnapshotIndex:
    """What a log of state records holds for one partition."""
    index = SnapshotIndex(agent, partition, partitions)
    for offset, (key, value) in enumerate(log):
        index.add(key, value, offset)
    return index


def read_found(log: Log, found: Found) -> dict[str, Section]:
    """The state of a snapshot that was found in a log, checked as the state store checks it."""

    def chunk(place: ChunkPlace) -> bytes:
        value = log[found.offsets[found.owner.chunk_key(place)]][1]
        if value is None or not is_whole(place, value):
            message = f"chunk {place.number} is damaged"
            raise SnapshotError(message)
        return value

    manifest = found.manifest
    assembly = Assembly(b"".join(map(chunk, manifest.index)), manifest.page, 1 << 30)
    for place in manifest.chunks:
        assembly.add(place.number, chunk(place))
    return assembly.sections()


class MemoryStates(StateStore):
    """`broker.state` is state.v1. `stop_at` makes a write fail when it begins with this text, as a kill would.

    Writes wait for `writable`, as for a slow broker, and `asked` tells that one does.
    """

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    async def post(self, owner: Owner, key: bytes, value: bytes | None, pending: Pending) -> None:
        if self.broker.stop_at is not None and self.broker.stop_at in key:
            message = "killed"
            raise SendFailed(message)
        if self.broker.writable is not None:
            self.broker.asked.set()
            await self.broker.writable.wait()
        self.broker.state.append((key, value))
        if key.endswith(b"/manifest") and value is not None:
            self.broker.happened.append(("saved", int(key.split(b"/")[3])))

    async def claim(self, agent: str, partition: int) -> Owner:
        self.broker.state.append((claim_key(agent, partition), CLAIM))
        return Owner(agent, partition, len(self.broker.state) - 1)

    async def load(self, agent: str, partitions: int, asked: Mapping[int, tuple[int, int]]) -> dict[int, Restored]:
        restored = {}
        for partition, bounds in asked.items():
            owner = await self.claim(agent, partition)
            index = index_of(self.broker.state, agent, partition, partitions)
            restored[partition] = one = Restored(owner, keys=set(index.keys))
            for found in index.complete(*bounds):
                try:
                    one.sections = read_found(self.broker.state, found)
                except SnapshotError as error:
                    index.refused.append(str(error))
                    continue
                one.next_offset = found.manifest.next_offset
                break
            one.refused = index.refused
            if one.next_offset is None and index.mismatch is not None:
                raise StateMismatch(index.mismatch)
        return restored


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

    async def commit(self) -> Collection[int]:
        if self.broker.refuse_commits:
            return ()
        self.broker.committed = max(self.broker.acked) + 1
        self.broker.happened.append(("committed", self.broker.committed))
        return range(4)

    async def first_at(self, partition: int, offset: int) -> int:
        return min((kept for kept in self.broker.kept if kept >= offset), default=1 << 62)


class Sum:
    """Adds numbers up, and counts how often it saw each."""

    def __init__(self) -> None:
        self.total = 0
        self.seen = np.zeros(4096, np.int64)

    def snapshot(self) -> dict[str, Section]:
        return {"total": Section(1, {"total": self.total}), "seen": Section(1, {"seen": self.seen})}

    def restore(self, sections: Mapping[str, Section]) -> list[str]:
        cold = [name for name in ("total", "seen") if name not in sections or sections[name].version != 1]
        try:
            if "total" not in cold:
                self.total = int(sections["total"].state["total"])
        except ValueError as error:
            raise SectionError("total", error) from error
        if "seen" not in cold:
            self.seen = sections["seen"].state["seen"]
        return cold + sorted(set(sections) - {"total", "seen"})


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
            stage.seen[number % len(stage.seen)] += 1
            sent.append(Outgoing("alerts.v1", b"k", str(stage.total).encode()))
        return sent

    def announce(self, stage: Sum, *, quiet: bool) -> Sequence[Outgoing]:
        return [Outgoing("rollups.v1", b"k", b"idle" if quiet else b"empty")]


def make_host(broker: Broker, role: SumRole, *, limit: int = 10, partitions: int = 4, **worker: Any) -> PartitionHost:
    return PartitionHost(
        role,
        partitions,
        MemoryOutbox(broker),
        MemoryStates(broker),
        MemoryAcker(broker),
        DeadLetterLimit("sum", DeadLetterSettings(limit=limit), lambda: 0.0),
        WorkerSettings(**worker),
        make_telemetry(),
    )


async def deliver(
    host: PartitionHost,
    broker: Broker,
    values: Mapping[int, str],
    generation: int = 0,
    together: bool = False,
    partition: int = 0,
) -> None:
    """Deliver values by offset, as messages of the current (or the given) assignment."""
    delivered: list[Delivered] = []
    for offset, value in values.items():
        record = Incoming("t.events.v1", partition, offset, b"k", value.encode(), (), 0.0)
        delivered.append((record, Token(offset, generation or broker.generation)))
    for run in [delivered] if together else [[one] for one in delivered]:
        await host.handle(run)


def taken(broker: Broker, end: int = 100, begin: int = 0) -> dict[int, Takeover]:
    """Partition 0, assigned as the broker's commits say."""
    return {0: Takeover(broker.committed, begin, end)}
