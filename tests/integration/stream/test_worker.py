import asyncio
import signal
import subprocess
from collections import defaultdict

import pytest
from aiokafka.structs import ConsumerRecord

from schemas.alert import Alert, decode_alert_record
from schemas.incident import Incident
from stream.checkpoint import SnapshotIndex, claim_key
from stream.topics_admin import create_topics
from tests.integration.stream.counting import chain, event_value, make_alert, make_settings
from tests.integration.stream.harness import Topics, WorkerProcesses

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

NODES = [f"node-{n}" for n in range(8)]


@pytest.fixture(autouse=True)
async def made_topics(bootstrap: str, prefix: str) -> None:
    settings = make_settings(bootstrap, prefix)
    await create_topics(settings.kafka, settings.topics)


async def send_events(topics: Topics, sequences: range) -> None:
    for sequence in sequences:
        await topics.send("events.v1", [(f"c/{node}", event_value(node, sequence)) for node in NODES])


def alerts_of(records: list[ConsumerRecord]) -> dict[str, dict[int, set[bytes]]]:
    """Every distinct text of each (id, revision)."""
    found: dict[str, dict[int, set[bytes]]] = defaultdict(lambda: defaultdict(set))
    for record in records:
        word = decode_alert_record(record.value)
        if isinstance(word, Alert):
            found[word.id][word.revision].add(record.value)
    return found


def complete(records: list[ConsumerRecord], messages: int) -> bool:
    found = alerts_of(records)
    return len(found) == len(NODES) and all(len(revisions) >= messages for revisions in found.values())


async def assert_exactly(topics: Topics, messages: int) -> None:
    """Every message of every node has its one alert, and each repeat of one is the same to the byte."""
    found = alerts_of(await topics.read("alerts.v1", lambda records: complete(records, messages)))
    for node in NODES:
        texts = [found[node][revision] for revision in sorted(found[node])]
        assert [len(t) for t in texts] == [1] * messages, node
        explanations = [Alert.decode(next(iter(t))).explanation for t in texts]
        assert explanations == chain(node, range(messages)), node


def one_snapshot_each(records: list[ConsumerRecord]) -> bool:
    """What every partition's checkpoints replaced, also the killed worker's, was cleared."""
    seen = 0
    for partition in range(4):
        index = SnapshotIndex("detect", partition, 4)
        for record in records:
            index.add(record.key, record.value, record.offset)
        whole = index.complete()
        seen += len(whole)
        needed = {
            key for found in whole for key in (*found.offsets, found.owner.manifest_key(found.manifest.next_offset))
        }
        # A partition where no node's messages are has a claim and no snapshot.
        if len(whole) > 1 or set(index.keys) != {*needed, claim_key("detect", partition)}:
            return False
    return seen > 0


async def ended(process: subprocess.Popen[bytes], within: float = 40) -> int:
    return await asyncio.to_thread(process.wait, within)


async def test_nothing_is_lost_or_doubled_across_sigterm(topics: Topics, workers: WorkerProcesses) -> None:
    first = workers.start()
    await send_events(topics, range(20))
    await topics.read("alerts.v1", lambda records: complete(records, 10))
    first.send_signal(signal.SIGTERM)
    await send_events(topics, range(20, 30))
    assert await ended(first) == 0, workers.log(0)
    workers.start()
    await send_events(topics, range(30, 40))
    await assert_exactly(topics, 40)
    assert '"event": "restored"' in workers.log(1)
    records = await topics.read("alerts.v1")
    assert sum(isinstance(decode_alert_record(r.value), Alert) for r in records) == 40 * len(NODES)


async def test_sigkill_repeats_only_equal_alerts(topics: Topics, workers: WorkerProcesses) -> None:
    first = workers.start(checkpoint_s=0.5)
    await send_events(topics, range(20))
    await topics.read("alerts.v1", lambda records: complete(records, 15))
    first.kill()
    await send_events(topics, range(20, 40))
    workers.start(checkpoint_s=0.5)
    await assert_exactly(topics, 40)
    assert one_snapshot_each(await topics.read("state.v1", one_snapshot_each))


@pytest.mark.parametrize("dies_at", [1, 6])
async def test_sigkill_between_a_checkpoint_s_chunks_and_its_manifest(
    topics: Topics, workers: WorkerProcesses, dies_at: int
) -> None:
    first = workers.start(checkpoint_s=0.2, dies_at=dies_at)
    sent = 0
    while first.poll() is None and sent < 200:
        await send_events(topics, range(sent, sent + 10))
        sent += 10
        await asyncio.sleep(0.2)
    assert await ended(first) == -signal.SIGKILL, workers.log(0)
    workers.start(checkpoint_s=0.5)
    await send_events(topics, range(sent, sent + 10))
    await assert_exactly(topics, sent + 10)


async def test_a_worker_paused_beyond_its_session_loses_its_partitions_and_harms_nothing(
    topics: Topics, workers: WorkerProcesses
) -> None:
    paused = workers.start(checkpoint_s=0.5)
    await send_events(topics, range(10))
    await topics.read("alerts.v1", lambda records: complete(records, 10))
    paused.send_signal(signal.SIGSTOP)
    workers.start(checkpoint_s=0.5)
    await workers.until_logged(1, '"partitions": [0, 1, 2, 3]')
    await send_events(topics, range(10, 20))
    await topics.read("alerts.v1", lambda records: complete(records, 20))
    paused.send_signal(signal.SIGCONT)
    await send_events(topics, range(20, 30))
    await assert_exactly(topics, 30)
    workers.started[1].kill()
    await send_events(topics, range(30, 40))
    await assert_exactly(topics, 40)


async def test_two_workers_share_and_one_takes_over_from_a_killed_one(topics: Topics, workers: WorkerProcesses) -> None:
    workers.start(checkpoint_s=1)
    await workers.until_logged(0, '"partitions": [0, 1, 2, 3]')
    await send_events(topics, range(10))
    second = workers.start(checkpoint_s=1)
    await workers.until_logged(1, '"event": "assigned"')
    await send_events(topics, range(10, 20))
    await assert_exactly(topics, 20)
    assert '"partitions": [0, 1, 2, 3]' not in workers.log(1)
    second.kill()
    await send_events(topics, range(20, 30))
    await assert_exactly(topics, 30)
    assert workers.started[0].poll() is None


async def test_who_had_nothing_feeds_nothing_before_the_takeover(topics: Topics, workers: WorkerProcesses) -> None:
    """Its client reads on through the rebalance, and is faster than the broker says where it begins."""

    async def send_alerts(numbers: range) -> None:
        await topics.send("alerts.v1", [(f"n{n}", make_alert(f"n{n}", 1, "digest", n).encode()) for n in numbers])

    async def revisions(count: int) -> list[int]:
        found = await topics.read("incidents.v1", lambda records: len({r.value for r in records}) >= count)
        return sorted({Incident.decode(record.value).revision for record in found})

    first = workers.start(agents="incidents", checkpoint_s=1)
    await workers.until_logged(0, '"partitions": [0]')
    workers.start(agents="incidents", checkpoint_s=1, takeover_s=3)
    await workers.until_logged(1, '"event": "assigned"')
    await send_alerts(range(20))
    assert await revisions(20) == list(range(1, 21))
    first.kill()
    await send_alerts(range(20, 40))
    await workers.until_logged(1, '"partitions": [0]')
    await send_alerts(range(40, 60))
    assert await revisions(60) == list(range(1, 61)), workers.log(1)
    assert workers.started[1].poll() is None, workers.log(1)


async def test_all_agents_of_the_chain_run_in_one_process(topics: Topics, workers: WorkerProcesses) -> None:
    process = workers.start(agents="detect,correlate,incidents,decide")
    await send_events(topics, range(5))
    incidents = await topics.read("incidents.v1", lambda records: len(records) >= 5 * len(NODES))
    responses = await topics.read("responses.v1", lambda records: len(records) >= len(NODES))
    assert len(incidents) == 5 * len(NODES)
    assert {r.key.decode() for r in responses} == {f"r-{node}" for node in NODES}
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == 0, workers.log(0)


async def test_poison_is_set_aside_and_the_rest_proceeds(topics: Topics, workers: WorkerProcesses) -> None:
    await topics.send("events.v1", [("c/bad", b"no event\x1b[31m")], partition=0)
    await topics.send("events.v1", [("c/p", event_value("poison", s)) for s in range(15)], partition=0)
    await topics.send("events.v1", [("c/bad", b"SGE1\xff\xff\xff\xff")], partition=0)
    await send_events(topics, range(3))
    workers.start()
    letters = await topics.read("deadletter.v1", lambda records: len(records) >= 3)
    assert [record.value for record in letters] == [
        b"no event\x1b[31m", event_value("poison", 13), b"SGE1\xff\xff\xff\xff",
    ]  # fmt: skip
    headers = dict(letters[0].headers)
    assert headers["topic"].decode().endswith(".events.v1")
    assert (headers["partition"], headers["offset"]) == (b"0", b"0")
    assert b"\x1b" not in headers["reason"]
    assert b"the thirteenth" in dict(letters[1].headers)["reason"]
    found = alerts_of(await topics.read("alerts.v1", lambda r: len(alerts_of(r).get("poison", ())) >= 14))
    assert len(found["poison"]) == 14
    assert set(NODES) <= set(found)


async def test_empty_partitions_are_announced_to_every_rollup_partition(
    topics: Topics, workers: WorkerProcesses
) -> None:
    workers.start()
    rollups = await topics.read("rollups.v1", lambda records: len(records) >= 8)
    # Again and again: stage 2 begins only when it is known that still nothing was there after others had begun.
    assert {(r.partition, r.key) for r in rollups} == {
        (partition, f"c/{sender}".encode()) for partition in range(2) for sender in range(4)
    }


async def test_an_unreachable_broker_is_one_line_and_exit_code_three(prefix: str, workers: WorkerProcesses) -> None:
    workers.bootstrap = "127.0.0.1:1"
    process = workers.start()
    assert await ended(process) == 3
    lines = [line for line in workers.log(0).splitlines() if not line.startswith("{")]
    assert len(lines) == 1
    assert "127.0.0.1:1" in lines[0]


async def test_missing_topics_are_refused_with_the_remedy(prefix: str, workers: WorkerProcesses) -> None:
    workers.prefix = f"{prefix}-other"
    process = workers.start()
    assert await ended(process) == 2
    assert "sluicegate topics create" in workers.log(0)
