"""The commands that need a broker, on a real Kafka."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from schemas.alert import Alert
from schemas.topics import ALERTS
from sluicegate.demo_broker import delete_topics
from sluicegate.demo_processes import DemoProcess
from sluicegate.inputs import read_inventory
from sluicegate.publish import publish_inventory
from sluicegate.settings import load_settings
from stream.settings import KafkaSettings
from tests.integration.cli.conftest import Ran

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
Command = Callable[..., Ran]
DEADLINE_SECONDS = 120.0


@pytest.fixture
def environment(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Settings for this broker under a prefix of the test's own."""
    prefix = f"cli{uuid.uuid4().hex[:12]}"
    variables = {"SLUICEGATE_STREAM__KAFKA__BOOTSTRAP": bootstrap, "SLUICEGATE_STREAM__KAFKA__PREFIX": prefix}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield variables
    names = [name for name in topics(bootstrap) if name.startswith(prefix)]
    asyncio.run(delete_topics(KafkaSettings(bootstrap=bootstrap), names))


def topics(bootstrap: str) -> set[str]:
    async def listed() -> set[str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            return set(await admin.list_topics())
        finally:
            await admin.close()

    return asyncio.run(listed())


def test_topics_are_created_once_and_checked(
    command: Command, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = command("topics", "check")
    assert missing.code == 2
    assert "is missing: run `sluicegate topics create`" in missing.err
    assert command("alerts", "tail", "--no-follow").code == 2
    assert "14 topics created" in command("topics", "create").out
    assert "0 topics created" in command("topics", "create").out
    assert command("topics", "check").code == 0
    monkeypatch.setenv("SLUICEGATE_STREAM__TOPICS__EVENT_PARTITIONS", "2")
    monkeypatch.setenv("SLUICEGATE_ENGINE__EVENT_PARTITIONS", "2")
    differs = command("topics", "check")
    assert differs.code == 2
    assert "has 4 partitions, settings say 2" in differs.said


@pytest.mark.parametrize("case", ["port_scan/syn", "demo/mixed"])
@pytest.mark.parametrize("waiting", [False, True], ids=["worker starts later", "worker is waiting"])
def test_the_worker_finds_what_replay_finds_byte_for_byte(
    command: Command, environment: dict[str, str], cases: Path, tmp_path: Path, case: str, waiting: bool
) -> None:
    inventory = cases / "demo" / "mixed" / "inventory.jsonl"
    capture = cases / case / "capture.pcapng.gz"
    expected = by_revision(command("replay", capture, "--inventory", inventory, "--json").out)
    assert expected
    assert command("topics", "create").code == 0
    # Names must be there before the first event: a replay knows them all, and an event those that came before it.
    asyncio.run(publish_inventory(load_settings(None).stream.kafka, read_inventory(inventory)))
    export = ("export", capture, "--to", "kafka")
    if not waiting:
        assert command(*export).code == 0
    worker = DemoProcess("worker", ["worker", "--log-level", "warning"], environment, tmp_path)
    try:
        asyncio.run(worker.ready())
        if waiting:
            assert command(*export).code == 0
        found = read_until(command, expected)
    finally:
        worker.stop()
    assert found == expected
    assert "port_scan_vertical" in command("alerts", "tail", "--from-beginning", "--no-follow").out


def test_what_is_no_alert_is_passed_over_and_said(command: Command, environment: dict[str, str]) -> None:
    kafka = load_settings(None).stream.kafka
    assert command("topics", "create").code == 0
    asyncio.run(say(kafka, [b"{", b'{"type": "alert"}', b""]))
    read = command("alerts", "tail", "--from-beginning", "--no-follow", "--json")
    assert (read.code, read.out) == (0, "")
    assert [f"record {offset} of alerts.v1" in read.err for offset in range(3)] == [True, True, True]


async def say(kafka: KafkaSettings, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(ALERTS.name(kafka.prefix), value)
    finally:
        await producer.stop()


def read_until(command: Command, expected: list[bytes]) -> list[bytes]:
    """Read alerts until they are as many as expected, or the deadline has passed."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    found: list[bytes] = []
    while len(found) < len(expected) and time.monotonic() < deadline:
        found = by_revision(command("alerts", "tail", "--from-beginning", "--no-follow", "--json").out)
    return found


def by_revision(lines: str) -> list[bytes]:
    alerts = [Alert.decode(line.encode()) for line in lines.splitlines() if orjson.loads(line)["type"] == "alert"]
    return [a.encode() for a in sorted(alerts, key=lambda a: (a.id, a.revision))]


def start_demo(bootstrap: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sluicegate", "demo", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env={**os.environ, "SLUICEGATE_KAFKA": bootstrap},
    )  # fmt: skip


def test_the_demo_finds_everything_and_leaves_nothing_behind(bootstrap: str) -> None:
    before = topics(bootstrap)
    with start_demo(bootstrap, "--speed", "100") as demo:
        out, _ = demo.communicate(timeout=280)
    assert demo.returncode == 0, out
    lines = out.splitlines()
    assert bootstrap in lines[0]
    assert "every expected alert came" in lines[-1]
    assert bootstrap in lines[-1]
    assert out.count(" hit ") == 3
    assert "kind: NetworkPolicy" in out
    assert "spoofable" in out
    assert max(map(len, lines)) <= 100
    assert topics(bootstrap) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_cleans_up(bootstrap: str, number: signal.Signals) -> None:
    before = topics(bootstrap)
    # Tests in the background are started with SIGINT ignored, which what they start would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with start_demo(bootstrap) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "waiting for the worker" in line:
                break
        children = [int(pid) for pid in Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()]
        assert len(children) == 2
        demo.send_signal(number)
        out, _ = demo.communicate(timeout=120)
    assert demo.returncode == 130, out
    assert "Traceback" not in out
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert topics(bootstrap) == before
