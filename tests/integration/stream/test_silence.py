"""Leaving an event partition out is a record: written when nothing comes, and never because a worker is gone."""

import asyncio
import signal

import pytest
from aiokafka.structs import ConsumerRecord

from schemas.rollups import RollupHeader, decode_rollup
from stream.topics_admin import create_topics
from tests.integration.stream.counting import event_value, make_settings
from tests.integration.stream.harness import Topics, WorkerProcesses
from tests.integration.stream.test_worker import ended

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

PARTITIONS = range(4)


@pytest.fixture(autouse=True)
async def made_topics(bootstrap: str, prefix: str) -> None:
    settings = make_settings(bootstrap, prefix)
    await create_topics(settings.kafka, settings.topics)


def rollups(records: list[ConsumerRecord], partition: int) -> list[RollupHeader]:
    return [decode_rollup(r.value).header for r in records if r.partition == partition]


def idle_senders(records: list[ConsumerRecord], partition: int) -> set[int]:
    return {h.sender for h in rollups(records, partition) if h.kind == "idle"}


async def speak(topics: Topics, sequence: int) -> None:
    for partition in PARTITIONS:
        values = [(f"c/n{partition}", event_value(f"n{partition}", sequence))]
        await topics.send("events.v1", values, partition=partition)


async def test_a_quiet_partition_is_left_out_up_to_where_it_has_spoken(
    topics: Topics, workers: WorkerProcesses
) -> None:
    for sequence in range(1, 6):
        await topics.send("events.v1", [("c/n", event_value("n", sequence))], partition=2)
    process = workers.start(quiet_s=1)
    records = await topics.read("rollups.v1", lambda found: all(2 in idle_senders(found, p) for p in range(2)))
    for partition in range(2):
        spoken = [(h.kind, h.tick) for h in rollups(records, partition) if h.sender == 2]
        assert spoken[:6] == [*(("tick", tick) for tick in range(1, 6)), ("idle", 5)]
    await topics.send("events.v1", [("c/n", event_value("n", 6))], partition=2)

    def heard(found: list[ConsumerRecord]) -> bool:
        return ("tick", 6) in [(h.kind, h.tick) for h in rollups(found, 0) if h.sender == 2]

    assert heard(await topics.read("rollups.v1", heard))
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == 0, workers.log(0)


async def test_a_takeover_is_no_silence(topics: Topics, workers: WorkerProcesses) -> None:
    sequence = 0
    speaking = True

    async def keep_speaking() -> None:
        nonlocal sequence
        while speaking:
            sequence += 1
            await speak(topics, sequence)
            await asyncio.sleep(0.1)

    exporters = asyncio.create_task(keep_speaking())
    # Shorter than the six seconds after which a killed worker's partitions move.
    workers.start(checkpoint_s=1, quiet_s=2)
    await workers.until_logged(0, '"partitions": [0, 1, 2, 3]')
    second = workers.start(checkpoint_s=1, quiet_s=2)
    await workers.until_logged(1, '"event": "assigned"')
    before = workers.log(0).count('"partitions": [0, 1, 2, 3]')
    second.kill()
    deadline = asyncio.get_running_loop().time() + 60
    while workers.log(0).count('"partitions": [0, 1, 2, 3]') == before:
        assert asyncio.get_running_loop().time() < deadline, workers.log(0)
        await asyncio.sleep(0.1)
    reached = sequence + 10

    def caught_up(found: list[ConsumerRecord]) -> bool:
        return {h.sender for h in rollups(found, 0) if h.tick >= reached} == set(PARTITIONS)

    records = await topics.read("rollups.v1", caught_up)
    assert caught_up(records)
    assert [h for p in range(2) for h in rollups(records, p) if h.kind != "tick"] == []
    speaking = False
    await exporters
    # Now it is silence, and said of every one of them.
    records = await topics.read("rollups.v1", lambda found: idle_senders(found, 1) == set(PARTITIONS))
    assert idle_senders(records, 0) == idle_senders(records, 1) == set(PARTITIONS)
