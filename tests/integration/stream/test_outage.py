import asyncio
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from sluicegate.demo_place import CACHE
from sluicegate.local_broker import LocalBroker, local_broker, missing_tools
from stream.topics_admin import create_topics
from tests.integration.stream.counting import event_value, make_settings
from tests.integration.stream.harness import Health, Topics, WorkerProcesses
from tests.integration.stream.test_worker import alerts_of, ended

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

REQUEST_TIMEOUT_S = 10  # of the workers, after which the client alone would drop what it cannot send


async def test_a_broker_killed_and_brought_back_costs_nothing(
    local_kafka: LocalBroker, topics: Topics, workers: WorkerProcesses, prefix: str
) -> None:
    settings = make_settings(local_kafka.bootstrap, prefix)
    await create_topics(settings.kafka, settings.topics)
    process = workers.start(checkpoint_s=1)
    await topics.send("events.v1", [("c/n", event_value("n", s)) for s in range(10)])
    await topics.read("alerts.v1", lambda records: len(alerts_of(records)["n"]) >= 10)
    local_kafka.kill_node(0)
    local_kafka.start_node(0)
    await topics.send("events.v1", [("c/n", event_value("n", s)) for s in range(10, 20)])
    found = alerts_of(await topics.read("alerts.v1", lambda records: len(alerts_of(records)["n"]) >= 20))
    assert sorted(found["n"]) == list(range(1, 21))
    assert all(len(texts) == 1 for texts in found["n"].values())
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == 0, workers.log(0)


@pytest.fixture
def three_brokers() -> Iterator[LocalBroker]:
    if problems := missing_tools(CACHE):
        pytest.skip("; ".join(problems))
    with local_broker(CACHE, nodes=3) as broker:
        yield broker


@pytest.fixture
async def spread_topics(three_brokers: LocalBroker, prefix: str, workers: WorkerProcesses) -> AsyncIterator[Topics]:
    """Topics of single copies on three brokers: whoever dies takes partitions away."""
    settings = make_settings(three_brokers.bootstrap, prefix)
    await create_topics(settings.kafka, settings.topics)
    workers.bootstrap = three_brokers.bootstrap
    producer = AIOKafkaProducer(bootstrap_servers=three_brokers.bootstrap)
    await producer.start()
    yield Topics(three_brokers.bootstrap, prefix, producer)
    await producer.stop()


async def leaders(topics: Topics) -> dict[tuple[str, int], int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=topics.bootstrap)
    await admin.start()
    try:
        words = [f"{topics.prefix}.{word}" for word in ("alerts.v1", "events.v1", "rollups.v1", "state.v1")]
        found = await admin.describe_topics(words)
    finally:
        await admin.close()
    return {(t["topic"].removeprefix(f"{topics.prefix}."), p["partition"]): p["leader"] for t in found
            for p in t["partitions"]}  # fmt: skip


async def test_a_partition_without_a_leader_makes_a_worker_wait_and_not_end(
    three_brokers: LocalBroker, spread_topics: Topics, workers: WorkerProcesses
) -> None:
    topics, where = spread_topics, await leaders(spread_topics)
    dead = where["alerts.v1", 0]
    partition = next(p for p in range(4) if where["events.v1", p] != dead)
    process = workers.start(checkpoint_s=1)
    await workers.until_logged(0, '"partitions": [0, 1, 2, 3]')
    health = Health(workers.log(0))
    await topics.send("events.v1", [("c/n", event_value("n", s)) for s in range(10)], partition)
    await topics.read("alerts.v1", lambda records: len(alerts_of(records)["n"]) >= 10)
    three_brokers.kill_node(dead - 1)  # ids count from 1
    await topics.send("events.v1", [("c/n", event_value("n", s)) for s in range(10, 20)], partition)
    deadline = asyncio.get_running_loop().time() + 90
    while health.metric("outbox_oldest_seconds") < REQUEST_TIMEOUT_S + 3:
        assert process.poll() is None, workers.log(0)
        assert asyncio.get_running_loop().time() < deadline, workers.log(0)
        await asyncio.sleep(0.5)
    assert health.metric("outbox_records") >= 1
    assert health.get("/healthz")[0] == 200
    three_brokers.start_node(dead - 1)
    found = alerts_of(await topics.read("alerts.v1", lambda records: len(alerts_of(records)["n"]) >= 20))
    assert sorted(found["n"]) == list(range(1, 21))
    assert all(len(texts) == 1 for texts in found["n"].values())
    assert process.poll() is None
    assert health.metric("send_failures_total") == 0
    await workers.until_logged(0, "brokers take records again")
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == 0, workers.log(0)
