import signal

import pytest

from sluicegate.local_broker import LocalBroker
from stream.topics_admin import create_topics
from tests.integration.stream.counting import event_value, make_settings
from tests.integration.stream.harness import Topics, WorkerProcesses
from tests.integration.stream.test_worker import alerts_of, ended

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


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
