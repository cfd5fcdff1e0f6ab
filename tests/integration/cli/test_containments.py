"""Operators' commands on a real Kafka: signed, obeyed by a real responder, seen in the audit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from schemas.finding import Endpoint
from schemas.response import ResponseDecision
from schemas.topics import COMMANDS, RESPONSES, TopicSpec
from sluicegate.demo_processes import DemoProcess
from sluicegate.inputs import read_inventory
from sluicegate.publish import publish_inventory
from sluicegate.settings import load_settings
from tests.integration.cli.conftest import Ran
from tests.integration.cli.test_broker import environment as environment

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
Command = Callable[..., Ran]
DEADLINE_SECONDS = 60.0
RESPONSE = "0123456789abcdef"


@pytest.fixture
def operators(
    command: Command, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> dict[str, str]:
    """Two operators' keys; the first one is at this desk."""
    lines = [
        command("keys", "new", name, tmp_path / f"{name}.pem", "--person", name.title()) for name in ("ana", "ben")
    ]
    (tmp_path / "operators.yaml").write_text("".join(ran.out for ran in lines))
    environment["SLUICEGATE_RESPONSE__COMMANDS__PUBLIC_KEYS_FILE"] = str(tmp_path / "operators.yaml")
    sits_down(monkeypatch, tmp_path, "ana")
    return environment


def sits_down(monkeypatch: pytest.MonkeyPatch, place: Path, name: str) -> None:
    """From now on an operator's commands are signed with his key."""
    monkeypatch.setenv("SLUICEGATE_RESPONSE__COMMANDS__PRIVATE_KEY_FILE", str(place / f"{name}.pem"))
    monkeypatch.setenv("SLUICEGATE_RESPONSE__COMMANDS__KEY_ID", name)


@pytest.fixture
def responder(
    command: Command, operators: dict[str, str], cases: Path, tmp_path: Path
) -> Iterator[Callable[[], DemoProcess]]:
    """Starts a responder that knows a cluster by its inventory only; a second call replaces the first."""
    assert command("topics", "create").code == 0
    objects = read_inventory(cases / "demo" / "mixed" / "inventory.jsonl")
    asyncio.run(publish_inventory(load_settings(None).stream.kafka, objects))
    running: list[DemoProcess] = []

    def start() -> DemoProcess:
        for process in running:
            process.stop()
        running.append(DemoProcess("respond", ["respond", "--no-cluster"], operators, tmp_path))
        asyncio.run(running[-1].ready())
        return running[-1]

    yield start
    for process in running:
        process.stop()


def publish(topic: TopicSpec, key: str, value: bytes) -> None:
    kafka = load_settings(None).stream.kafka

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all")
        await producer.start()
        try:
            await producer.send_and_wait(topic.name(kafka.prefix), value, key=key.encode())
        finally:
            await producer.stop()

    asyncio.run(send())


def decide(cases: Path) -> None:
    """A decision about a pod of the inventory, in mode approve with two persons."""
    objects = read_inventory(cases / "demo" / "mixed" / "inventory.jsonl")
    pod = next(item for item in objects if item.kind == "Pod" and item.ips and item.labels)
    attacker = Endpoint(ip=pod.ips[0], pod=pod.name, namespace=pod.namespace, workload=pod.workload,
                        labels=pod.labels, identity="known")  # fmt: skip
    decision = ResponseDecision(
        id=RESPONSE, alert_id="alert-1", alert_revision=1, cluster="local", detector="port_scan",
        kind="port_scan_vertical", severity="high", confidence=0.9, category="intrusion", mode="approve",
        actions=("quarantine_pod",), attackers=(attacker,), victims=(Endpoint(ip="203.0.113.9", port=443),),
        spoofable=False, decided_tick=int(time.time()),  # noqa: TID251 - the responder reads a clock
        deadline_s=3600, ttl_s=600, reason="test", approvals=2,
    )  # fmt: skip
    publish(RESPONSES, RESPONSE, decision.encode())


def listed(command: Command, phase: str) -> Ran:
    """The list, once a response is in a phase."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        ran = command("containments", "list", "--all", "--json")
        if any(orjson.loads(line)["phase"] == phase for line in ran.out.splitlines()):
            return ran
    pytest.fail(f"no response came to phase {phase}: {ran.out}")


def test_from_a_proposal_by_two_persons_to_what_the_cluster_says(
    command: Command, responder: Callable[[], DemoProcess], cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    responder()
    decide(cases)
    listed(command, "proposed")
    assert RESPONSE in command("containments", "list").out
    assert "kind: NetworkPolicy" in command("containments", "show", RESPONSE[:6]).out

    first = command("containments", "approve", RESPONSE[:6], "--reason", "seen")
    assert (first.code, "approved by Ana (ana), 1 of 2" in first.out) == (0, True), first
    again = command("containments", "approve", RESPONSE)
    assert (again.code, "another person must" in again.out) == (1, True), again
    responder()
    sits_down(monkeypatch, tmp_path, "ben")
    second = command("containments", "approve", RESPONSE)
    # Approved by two; but there is no cluster here to change.
    assert (second.code, "2 of 2" in second.out, "no_cluster" in second.out) == (1, True, True), second

    story = command("containments", "explain", RESPONSE)
    assert [word in story.out for word in ("Ana (ana)", "Ben (ben)", "approved_already", "Next:")] == [True] * 4
    record = command("containments", "record", RESPONSE, "--json")
    assert [line["what"] for line in orjson.loads(record.out)["timeline"]][:2] == ["proposed", "approved"]
    assert command("containments", "record", "nothing").code == 2
    assert "no response 'zz'" in command("containments", "show", "zz").said


def test_the_allow_list_and_commands_that_are_not_believed(
    command: Command, responder: Callable[[], DemoProcess], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    responder()
    added = command("allow", "add", "203.0.113.7", "--reason", "our scanner", "--for", "3600")
    assert (added.code, "our scanner" in added.out) == (0, True), added
    (entry,) = map(orjson.loads, command("allow", "list", "--json").out.splitlines())
    assert (entry["target"], entry["operator"], entry["reason"]) == ("203.0.113.7/32", "Ana (ana)", "our scanner")
    assert command("allow", "add", "nobody", "--reason", "x").code == 1
    stranger = command("keys", "new", "eve", tmp_path / "eve.pem", "--person", "Eve")
    assert stranger.code == 0
    sits_down(monkeypatch, tmp_path, "eve")
    refused = command("allow", "remove", "203.0.113.7")
    assert (refused.code, "unknown_key" in refused.out) == (1, True), refused
    sits_down(monkeypatch, tmp_path, "ana")
    publish(COMMANDS, "x", b'{"type": "command"}')
    assert command("allow", "remove", "203.0.113.7").code == 0, "what is no command is set aside"
    assert command("allow", "list", "--json").out == ""


def test_without_a_responder_or_a_key_the_operator_is_told(
    command: Command, operators: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("topics", "create").code == 0
    nobody = command("containments", "stop", "--reason", "x", "--wait", "1")
    assert nobody.code == 1
    assert "no responder of cluster local answered" in nobody.said
    monkeypatch.delenv("SLUICEGATE_RESPONSE__COMMANDS__KEY_ID")
    assert "no key to sign with" in command("containments", "stop", "--reason", "x").said
