import random
from collections.abc import AsyncIterator

import pytest

from stream.checkpoint import Snapshot
from stream.outbox import Outbox, Pending
from stream.records import Outgoing
from stream.settings import KafkaSettings, TopicSettings, WorkerSettings
from stream.state_store import StateStore
from stream.telemetry import make_telemetry
from stream.topics_admin import create_topics
from tests.integration.stream.harness import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

TOPICS = TopicSettings(event_partitions=2, rollup_partitions=1, state_partitions=2)


@pytest.fixture
async def outbox(bootstrap: str, prefix: str) -> AsyncIterator[Outbox]:
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=prefix)
    await create_topics(kafka, TOPICS)
    outbox = await Outbox(kafka, WorkerSettings(), make_telemetry()).start()
    yield outbox
    await outbox.stop()


@pytest.fixture
def store(bootstrap: str, prefix: str, outbox: Outbox) -> StateStore:
    return StateStore(KafkaSettings(bootstrap=bootstrap, prefix=prefix), TOPICS.state_partitions, outbox)


def snapshot(next_offset: int, partition: int = 0, size: int = 1_200_000) -> Snapshot:
    return Snapshot("detect", partition, 2, next_offset, random.Random(next_offset).randbytes(size))


async def test_the_newest_snapshot_comes_back_whole_for_each_partition(store: StateStore) -> None:
    keys = await store.save(snapshot(10), ())
    await store.save(snapshot(20), keys)
    await store.save(snapshot(7, partition=1), ())
    found = await store.load("detect", 2, {0: 20, 1: None})
    assert (found[0].snapshot, found[1].snapshot) == (snapshot(20), snapshot(7, partition=1))
    assert (await store.load("correlate", 2, {0: None}))[0].snapshot is None


async def test_the_replaced_snapshot_is_cleared(store: StateStore) -> None:
    old = await store.save(snapshot(10), ())
    new = await store.save(snapshot(20), old)
    assert not old & new
    assert (await store.load("detect", 2, {0: None}))[0].keys == new


async def test_a_snapshot_below_the_committed_offset_is_not_used(store: StateStore) -> None:
    await store.save(snapshot(10), ())
    assert (await store.load("detect", 2, {0: 11}))[0].snapshot is None


async def test_a_snapshot_far_back_is_found(store: StateStore, outbox: Outbox, topics: Topics) -> None:
    await store.save(snapshot(10), ())
    pending: Pending = set()
    await outbox.post(
        [Outgoing("state.v1", f"other/{n}".encode(), b"x", p) for n in range(700) for p in (0, 1)], pending
    )
    await outbox.durable(pending)
    assert (await store.load("detect", 2, {0: 10}))[0].snapshot == snapshot(10)
