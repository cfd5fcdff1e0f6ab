"""What a worker says of its own health while a real broker gives it work."""

import signal

import pytest

from stream.topics_admin import create_topics
from tests.integration.stream.counting import STUCK, event_value, make_settings
from tests.integration.stream.harness import Health, Topics, WorkerProcesses
from tests.integration.stream.test_worker import NODES, complete, ended, send_events

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

MEASURED = (
    "checkpoint_seconds_count",
    "snapshot_seconds_count",
    "durable_seconds_count",
    "tick_delay_seconds_count",
    "append_to_fed_seconds_count",
)


@pytest.fixture(autouse=True)
async def made_topics(bootstrap: str, prefix: str) -> None:
    settings = make_settings(bootstrap, prefix)
    await create_topics(settings.kafka, settings.topics)


async def test_delays_checkpoints_and_restores_are_measured(topics: Topics, workers: WorkerProcesses) -> None:
    first = workers.start(checkpoint_s=0.5)
    await workers.until_logged(0, '"event": "health"')
    health = Health(workers.log(0))
    await health.until(lambda h: h.get("/readyz")[0] == 200)
    await send_events(topics, range(10))
    await topics.read("alerts.v1", lambda records: complete(records, 10))
    await health.until(lambda h: all(h.metric(name) > 0 for name in MEASURED))
    await health.until(lambda h: h.metric("lag") == 0 and h.metric("checkpoint_age_seconds") == 0)
    assert health.metric("messages_total") == 10 * len(NODES)
    first.send_signal(signal.SIGTERM)
    assert await ended(first) == 0, workers.log(0)
    workers.start(checkpoint_s=0.5)
    await workers.until_logged(1, '"event": "health"')
    health = Health(workers.log(1))
    assert health.get("/healthz") == (200, "ok\n")
    await health.until(lambda h: h.get("/readyz")[0] == 200)
    # Ready is not before the snapshots are there.
    assert '"event": "restored"' in workers.log(1)
    assert health.metric("restore_seconds_count") > 0
    assert health.metric("restores_total") == 4


async def test_lag_without_progress_fails_liveness_and_is_named(topics: Topics, workers: WorkerProcesses) -> None:
    process = workers.start(checkpoint_s=1)
    await workers.until_logged(0, '"partitions": [0, 1, 2, 3]')
    health = Health(workers.log(0))
    await topics.send("events.v1", [("c/n", event_value("n", s)) for s in range(5)], partition=0)
    await health.until(lambda h: h.metric("messages_total") == 5 and h.metric("lag") == 0)
    assert health.get("/healthz")[0] == 200
    await topics.send("events.v1", [("c/s", event_value(STUCK, 0))], partition=0)
    await topics.send("events.v1", [("c/n", event_value("n", s)) for s in range(5, 10)], partition=1)
    await health.until(lambda h: h.metric("lag") >= 5)
    await health.until(lambda h: h.get("/healthz")[0] == 503)
    _, said = health.get("/healthz")
    assert said.startswith("detect partition ")
    assert "messages behind, none fed for" in said or "checkpoint overdue" in said
    await health.until(lambda h: h.metric("stalled") == 1)
    assert health.get("/readyz")[0] == 503
    process.kill()
