"""From a decision to a file of packets on the node: plan, signed command, agent, hash in the audit."""

from __future__ import annotations

import asyncio
import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from response.ledger import replayed
from response.node.settings import NodeStepSettings
from response.record import incident_record
from response.responder import Responder
from response.settings import ResponseSettings
from response.signing import write_private_key
from schemas.action import Action
from schemas.policy.cluster import ClusterView
from sluicegate.local_broker import LocalBroker
from sluicegate.node_link import reach_nodes
from stream.settings import KafkaSettings
from tests.integration.node.conftest import KEY
from tests.integration.node.conversations import Conversation, wall
from tests.integration.node.relay import Relay
from tests.integration.node.test_agent_process import CAPTURE_RIGHTS, ONE_RIGHT, AgentProcess, topics
from tests.integration.node.test_responder_to_node import ATTACKER, decision, known, pod
from tests.integration.stream.harness import Topics
from tests.lab import pods
from tests.lab.lab import Lab, missing
from tests.unit.response.cluster_cases import MemoryGateway

__all__ = ["topics"]

pytestmark = [
    pytest.mark.kafka, pytest.mark.lab, pytest.mark.timeout(300),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]  # fmt: skip

PACKETS, SECONDS = 40, 30
ASKED = decision("capture_traffic", (known(ATTACKER),), ())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "captures"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def responder(topics: Topics, tmp_path: Path) -> Iterator[Responder]:
    from cryptography.hazmat.primitives import serialization as form

    pem = KEY.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    write_private_key(tmp_path / "responder.pem", pem)
    steps = NodeStepSettings(
        enabled=True, private_key_file=tmp_path / "responder.pem", key_id="responder", answer_s=20,
        capture_packets=PACKETS, capture_bytes=1 << 20, capture_s=SECONDS,
    )  # fmt: skip
    kafka = KafkaSettings(bootstrap=topics.bootstrap, prefix=topics.prefix)
    inner = MemoryGateway(base=ClusterView(pods=(pod(ATTACKER),), namespaces={ATTACKER.namespace: {}}))
    gateway, close = reach_nodes(inner, kafka, steps, "local", lambda: None)
    yield Responder(gateway, ResponseSettings(node_steps=steps, opt_in=("capture_traffic",)), "local")
    close()


@pytest.fixture
def agent(request: pytest.FixtureRequest, lab: Lab, topics: Topics, local_kafka: LocalBroker, tmp_path: Path) -> Any:
    """An agent with the rights of a test's parameter, or those that captures need."""
    rights = getattr(request, "param", CAPTURE_RIGHTS)
    with Relay(lab.space("node"), int(local_kafka.bootstrap.rpartition(":")[2])):
        made = AgentProcess(lab, topics, tmp_path, rights)
        yield made
        made.close()


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def asked(responder: Responder) -> Action:
    (action,) = await asyncio.to_thread(responder.respond, ASKED, wall())
    assert (action.outcome, action.reason) == ("applied", "nothing_to_prove"), action.message
    return action


async def test_what_the_suspect_says_is_on_the_node_and_its_hash_in_the_audit(
    lab: Lab, agent: AgentProcess, responder: Responder, folder: Path, tmp_path: Path
) -> None:
    agent.start(capture_dir=str(folder))
    attack = Conversation(lab, tmp_path, "attacker", pods.OUTSIDE4)
    neighbour = Conversation(lab, tmp_path, "client1", pods.OUTSIDE4)
    applied = await asked(responder)
    told = await agent.actions(2)
    assert [action.outcome for action in told] == ["node_set", "node_captured"], told[-1].message
    (file,) = files(folder)
    (listed,) = told[-1].manifests
    assert (listed["file"], listed["packets"], listed["ended"]) == (file.name, PACKETS, "packets")
    assert listed["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert listed["bytes"] == file.stat().st_size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = lab.run("node", ["tshark", "-r", str(file), "-T", "fields", "-e", "ip.addr"])
    lines = [line for line in text.splitlines() if line]
    assert len(lines) > PACKETS / 2
    assert all(ATTACKER.ip4 in line.split(",") for line in lines), "the neighbour is not in it"
    assert {question.word for question in (*attack.since(0.0), *neighbour.since(0.0))} == {"ok"}
    ledger = replayed([applied, *told])
    known_now = ledger.get(ASKED.id)
    assert known_now is not None
    assert listed["sha256"] in known_now.evidence[0]
    record = incident_record(ASKED.id, "local", None, (), [applied, *told])
    assert listed["sha256"] in record.captures[0]


async def test_a_revert_ends_it_and_keeps_what_there_is(
    lab: Lab, agent: AgentProcess, responder: Responder, folder: Path
) -> None:
    """Nobody talks: without the revert it would last its whole time."""
    agent.start(capture_dir=str(folder))
    lab.run("attacker", ["ping", "-c", "1", pods.GATEWAY4])  # the bridge knows where it is
    began = wall()
    await asked(responder)
    await asyncio.to_thread(responder.revert, ASKED.id, "ana", wall())
    told = {action.outcome: action for action in await agent.actions(3)}
    assert told["node_captured"].reason == "stopped", told["node_captured"].message
    assert wall() - began < SECONDS
    (file,) = files(folder)
    assert file.suffix == ".pcap"


@pytest.mark.parametrize(
    ("agent", "settings", "reason"),
    [(CAPTURE_RIGHTS, {"capture_room": "4096"}, "no_room"), (ONE_RIGHT, {}, "not_captured")],
    indirect=["agent"],
)
async def test_what_could_not_be_captured_is_told(
    lab: Lab, agent: AgentProcess, responder: Responder, folder: Path, settings: dict[str, str], reason: str
) -> None:
    agent.start(capture_dir=str(folder), **settings)
    lab.run("attacker", ["ping", "-c", "1", pods.GATEWAY4])
    await asked(responder)
    failed = (await agent.actions(2))[-1]
    assert (failed.outcome, failed.reason) == ("node_failed", reason), failed.message
    assert files(folder) == []


async def test_a_node_without_a_place_for_them_refuses(agent: AgentProcess, responder: Responder) -> None:
    agent.start()
    (action,) = await asyncio.to_thread(responder.respond, ASKED, wall())
    assert (action.outcome, action.reason) == ("failed", "no_capture_dir"), action.message
