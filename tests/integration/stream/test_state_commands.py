"""`sluicegate state` on a real broker."""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable

import pytest
from aiokafka import AIOKafkaConsumer

from sluicegate.__main__ import run
from stream.deadletters import DeadLetterLimit
from stream.host import PartitionHost, Takeover
from stream.outbox import Outbox
from stream.settings import DeadLetterSettings, KafkaSettings, TopicSettings, WorkerSettings
from stream.state_store import StateStore
from stream.telemetry import make_telemetry
from stream.topics_admin import create_topics
from tests.unit.stream.memory import Broker, MemoryAcker, SumRole, deliver

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

Command = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def command(bootstrap: str, prefix: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("SLUICEGATE_STREAM__KAFKA__BOOTSTRAP", bootstrap)
    monkeypatch.setenv("SLUICEGATE_STREAM__KAFKA__PREFIX", prefix)

    async def call(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = await asyncio.to_thread(run, ["state", *words])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
async def kafka(bootstrap: str, prefix: str) -> KafkaSettings:
    settings = KafkaSettings(bootstrap=bootstrap, prefix=prefix)
    await create_topics(settings, TopicSettings())
    return settings


async def write_state(kafka: KafkaSettings, partitions: int = 2) -> None:
    """Three checkpoints of partitions 0 … of an agent named sum."""
    outbox = await Outbox(kafka, WorkerSettings(), make_telemetry()).start()
    store = StateStore(kafka, TopicSettings().state_partitions, outbox, WorkerSettings())
    limit = DeadLetterLimit("sum", DeadLetterSettings(), lambda: 0.0)
    broker = Broker()
    host = PartitionHost(SumRole(), 4, outbox, store, MemoryAcker(broker), limit, WorkerSettings(), make_telemetry())
    await host.assigned({p: Takeover(None, 0, 100) for p in range(partitions)})
    for offset in range(3):
        for partition in range(partitions):
            await deliver(host, broker, {offset: str(offset * 1000)}, partition=partition)
        await host._checkpoint("interval")
    await outbox.stop()


async def test_state_is_listed_shown_and_dropped(command: Command, kafka: KafkaSettings) -> None:
    assert await command("list") == (0, "no state: no agent has made a checkpoint yet\n", "")
    await write_state(kafka)
    code, out, _ = await command("list", "--json")
    listed = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(s["agent"], s["partition"], s["next_offset"], s["partitions"]) for s in listed] == [
        ("sum", 0, 3, 4), ("sum", 1, 3, 4),
    ]  # fmt: skip
    assert listed[0]["size"] > 4096 * 8
    assert listed[0]["stored"] >= listed[0]["size"]
    assert listed[0]["chain"] == 3
    assert {s["name"]: s["version"] for s in listed[0]["sections"]} == {"seen": 1, "total": 1}
    code, out, _ = await command("list")
    assert code == 0
    rows = [line.split() for line in out.splitlines() if line.strip()]
    assert rows[0][:2] == ["AGENT", "PARTITION"]
    assert ["sum", "1", "3"] in [row[:3] for row in rows]
    code, out, _ = await command("show", "sum", "1")
    assert code == 0
    assert "holds all input below offset 3, of 4 partitions" in out
    assert "seen" in out
    code, out, _ = await command("drop", "sum", "0", "--yes")
    assert (code, out.startswith("dropped the state of sum, partition 0:")) == (0, True)
    code, out, _ = await command("list", "--json")
    assert [json.loads(line)["partition"] for line in out.splitlines()] == [1]


async def test_nothing_is_dropped_without_an_answer(
    command: Command, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write_state(kafka, partitions=1)
    for answer in ("n\n", ""):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        code, _, err = await command("drop", "sum")
        assert code == 1
        assert "sluicegate: nothing dropped; answer y, or give --yes" in err
    assert (await command("show", "sum"))[0] == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert (await command("drop", "sum"))[0] == 0
    assert (await command("show", "sum"))[0] == 2


async def test_state_of_a_running_agent_is_not_dropped(command: Command, kafka: KafkaSettings) -> None:
    await write_state(kafka, partitions=1)
    member = AIOKafkaConsumer(
        f"{kafka.prefix}.events.v1", bootstrap_servers=kafka.bootstrap, group_id=f"{kafka.prefix}-sum"
    )
    await member.start()
    try:
        code, _, err = await command("drop", "sum", "--yes")
    finally:
        await member.stop()
    assert code == 1
    assert err.startswith(f"sluicegate: agent sum is running: its group {kafka.prefix}-sum has 1 members")
    assert (await command("show", "sum"))[0] == 0
    assert (await command("drop", "sum", "--yes"))[0] == 0


async def test_what_is_not_there_is_one_line(command: Command, kafka: KafkaSettings) -> None:
    for words in (["show", "detect", "3"], ["drop", "detect", "--yes"]):
        code, _, err = await command(*words)
        assert code == 2
        assert len(err.splitlines()) == 1
        assert "see `sluicegate state list`" in err


async def test_missing_topics_are_named(command: Command, bootstrap: str) -> None:
    code, _, err = await command("list")
    assert code == 2
    assert "sluicegate topics create" in err
