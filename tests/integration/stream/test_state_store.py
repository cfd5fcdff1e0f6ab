"""Checkpoints on a real broker: hosts with the real outbox and state store, fed by hand."""

from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from stream.checkpoint import SnapshotIndex, StateMismatch
from stream.checkpointer import Held
from stream.deadletters import DeadLetterLimit
from stream.host import PartitionHost, Takeover
from stream.outbox import Outbox, Pending
from stream.records import Outgoing
from stream.settings import DeadLetterSettings, KafkaSettings, TopicSettings, WorkerSettings
from stream.state_store import StateStore
from stream.telemetry import make_telemetry
from stream.topics_admin import create_topics
from tests.integration.stream.harness import Topics
from tests.unit.stream.memory import Broker, MemoryAcker, Sum, SumRole, deliver, taken

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

TOPICS = TopicSettings(event_partitions=2, rollup_partitions=1, state_partitions=2)
# 2 MiB of state: several chunks.
CELLS = 1 << 18

MakeHost = Callable[..., PartitionHost]


class WideRole(SumRole):
    """A sum with a large state, of which each number touches one page."""

    def open(self, partition: int) -> Sum:
        stage = super().open(partition)
        stage.seen = np.zeros(CELLS, np.int64)
        return stage


@pytest.fixture
async def outbox(bootstrap: str, prefix: str) -> AsyncIterator[Outbox]:
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=prefix)
    await create_topics(kafka, TOPICS)
    outbox = await Outbox(kafka, WorkerSettings(), make_telemetry()).start()
    yield outbox
    await outbox.stop()


@pytest.fixture
def store(bootstrap: str, prefix: str, outbox: Outbox) -> StateStore:
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=prefix)
    return StateStore(kafka, TOPICS.state_partitions, outbox, WorkerSettings())


@pytest.fixture
def make(outbox: Outbox, store: StateStore) -> MakeHost:
    def host(broker: Broker, *, partitions: int = 2) -> PartitionHost:
        limit = DeadLetterLimit("sum", DeadLetterSettings(), lambda: 0.0)
        return PartitionHost(
            WideRole(), partitions, outbox, store, MemoryAcker(broker), limit, WorkerSettings(), make_telemetry()
        )

    return host


def held(host: PartitionHost, partition: int = 0) -> Held:
    found = host._held_now(partition)
    assert found is not None
    return found


def total(host: PartitionHost) -> int:
    stage = held(host).stage
    assert isinstance(stage, Sum)
    assert int((stage.seen * np.arange(CELLS)).sum()) == stage.total, "pages of different checkpoints"
    return stage.total


async def checkpoints(host: PartitionHost, broker: Broker, offsets: range) -> None:
    for offset in offsets:
        await deliver(host, broker, {offset: str(offset * 1000)})
        await host._checkpoint("interval")


async def state_of(topics: Topics, partitions: int | None = 2) -> SnapshotIndex:
    index = SnapshotIndex("sum", 0, partitions)
    for record in await topics.read("state.v1"):
        index.add(record.key, record.value, record.offset)
    return index


async def test_a_chain_of_checkpoints_comes_back_whole(make: MakeHost, topics: Topics) -> None:
    broker = Broker()
    first = make(broker)
    await first.assigned(taken(broker))
    await checkpoints(first, broker, range(8))
    await deliver(first, broker, {8: "77"})
    assert len({p.next_offset for p in (await state_of(topics)).complete()[0].manifest.chunks}) == 8
    second = make(broker)  # the first was killed: what it had not saved comes again
    await second.assigned(taken(broker))
    await deliver(second, broker, {8: "77"})
    assert total(second) == total(first) == sum(range(8)) * 1000 + 77


async def test_what_is_no_longer_needed_is_cleared(make: MakeHost, outbox: Outbox, topics: Topics) -> None:
    broker = Broker()
    for owner in range(3):
        host = make(broker)
        await host.assigned(taken(broker))
        await checkpoints(host, broker, range(owner * 5, owner * 5 + 5))
    index = await state_of(topics)
    found = index.complete()
    assert [one.manifest.next_offset for one in found] == [15]
    needed = {*found[0].offsets, found[0].owner.manifest_key(15), b"sum/0/claim"}
    assert set(index.keys) == needed


async def test_each_partition_has_its_own_and_other_agents_none(make: MakeHost, store: StateStore) -> None:
    broker = Broker()
    host = make(broker)
    await host.assigned({0: Takeover(None, 0, 100), 1: Takeover(None, 0, 100)})
    await checkpoints(host, broker, range(2))
    found = await store.load("sum", 2, {0: (0, 100), 1: (0, 100)})
    assert (found[0].next_offset, found[1].next_offset) == (2, None)
    assert (await store.load("other", 2, {0: (0, 100)}))[0].next_offset is None


async def test_a_snapshot_below_the_committed_offset_or_beyond_the_end_is_not_used(
    make: MakeHost, store: StateStore
) -> None:
    broker = Broker()
    host = make(broker)
    await host.assigned(taken(broker))
    await checkpoints(host, broker, range(3))
    assert (await store.load("sum", 2, {0: (4, 100)}))[0].next_offset is None
    assert (await store.load("sum", 2, {0: (0, 2)}))[0].next_offset is None


async def test_another_partition_count_is_refused_with_the_remedy(make: MakeHost) -> None:
    broker = Broker()
    host = make(broker)
    await host.assigned(taken(broker))
    await checkpoints(host, broker, range(1))
    with pytest.raises(StateMismatch, match="sluicegate state drop sum"):
        await make(broker, partitions=3).assigned(taken(broker))


async def test_a_snapshot_far_back_is_found(make: MakeHost, outbox: Outbox) -> None:
    broker = Broker()
    host = make(broker)
    await host.assigned(taken(broker))
    await checkpoints(host, broker, range(3))
    pending: Pending = set()
    others = [Outgoing("state.v1", f"other/{n}".encode(), b"x", p) for n in range(700) for p in (0, 1)]
    await outbox.post(others, pending)
    await outbox.durable(pending)
    second = make(broker)
    await second.assigned(taken(broker))
    assert total(second) == 3000


async def test_a_paused_former_owner_that_writes_late_harms_nothing(make: MakeHost, topics: Topics) -> None:
    broker = Broker()
    former = make(broker)
    await former.assigned(taken(broker))
    await checkpoints(former, broker, range(3))
    await deliver(former, broker, {3: "3000"})
    newer = make(broker)
    await newer.assigned(taken(broker))
    await checkpoints(newer, broker, range(3, 6))
    # It wakes up and finishes what it was at; the group takes no commit from it.
    broker.refuse_commits = True
    await former.close()
    broker.refuse_commits = False
    await checkpoints(newer, broker, range(6, 8))
    last = make(broker)
    await last.assigned(taken(broker))
    assert total(last) == sum(range(8)) * 1000
