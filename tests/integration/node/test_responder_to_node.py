"""From a decision to dropped packets: the responder's plan and proof, a signed command, the agent, the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from response.node.settings import NodeStepSettings
from response.responder import Responder
from response.settings import ResponseSettings
from response.signing import write_private_key
from schemas.finding import Endpoint
from schemas.policy.cluster import ClusterView, Pod
from schemas.response import ActionName, ResponseDecision
from sluicegate.node_link import reach_nodes
from stream.settings import KafkaSettings
from tests.integration.node.conftest import KEY
from tests.integration.node.conversations import PORT, Conversation, open_many, wall
from tests.integration.node.test_agent_process import AgentProcess, agent, topics
from tests.integration.stream.harness import Topics
from tests.lab import pods
from tests.lab.lab import Lab, missing
from tests.unit.response.cluster_cases import MemoryGateway

__all__ = ["agent", "topics"]

pytestmark = [
    pytest.mark.kafka, pytest.mark.lab, pytest.mark.timeout(300),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]  # fmt: skip

ATTACKER, WEB = pods.BY_NAME["attacker"], pods.BY_NAME["web"]


def pod(of: pods.Pod) -> Pod:
    return Pod(
        of.namespace, of.name, {"app": of.app}, (of.ip4, of.ip6), workload=f"Deployment/{of.workload}", node="node1"
    )


def known(of: pods.Pod, port: int | None = None) -> Endpoint:
    return Endpoint(
        ip=of.ip4, pod=of.name, namespace=of.namespace, identity="known", port=port, protocol="TCP" if port else None
    )


def decision(action: ActionName, attackers: tuple[Endpoint, ...], victims: tuple[Endpoint, ...]) -> ResponseDecision:
    return ResponseDecision(
        id=f"test-{action.replace('_', '-')}", alert_id="a1", alert_revision=1, cluster="local", detector="d", kind="d",
        severity="high", confidence=1, category="intrusion", mode="enforce", actions=(action,), attackers=attackers,
        victims=victims, spoofable=False, decided_tick=int(wall()), deadline_s=60, ttl_s=600, reason="test",
    )  # fmt: skip


@pytest.fixture
def responder(topics: Topics, tmp_path: Path) -> Iterator[Responder]:
    from cryptography.hazmat.primitives import serialization as form

    pem = KEY.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    write_private_key(tmp_path / "responder.pem", pem)
    steps = NodeStepSettings(
        enabled=True, private_key_file=tmp_path / "responder.pem", key_id="responder", per_source=10, answer_s=20
    )
    kafka = KafkaSettings(bootstrap=topics.bootstrap, prefix=topics.prefix)
    inner = MemoryGateway(base=ClusterView(pods=(pod(ATTACKER), pod(WEB)), namespaces={ATTACKER.namespace: {}}))
    gateway, close = reach_nodes(inner, kafka, steps, "local", lambda: None)
    yield Responder(gateway, ResponseSettings(node_steps=steps), "local")
    close()


async def test_a_decision_ends_an_established_connection_and_a_revert_lets_it_go_on(
    lab: Lab, agent: AgentProcess, responder: Responder, tmp_path: Path
) -> None:
    agent.start()
    attack = Conversation(lab, tmp_path, "attacker", pods.OUTSIDE4)
    neighbour = Conversation(lab, tmp_path, "client1", pods.OUTSIDE4)
    asked = decision("cut_on_node", (known(ATTACKER),), (Endpoint(ip=pods.OUTSIDE4),))
    (action,) = await asyncio.to_thread(responder.respond, asked, wall())
    applied = wall()
    assert (action.outcome, action.reason) == ("applied", "proven")
    attack.wait_for("lost", applied)
    # The responder says applied only once the kernel drops: nothing was answered after its word.
    assert [q for q in attack.since(applied) if q.word == "ok"] == []
    await asyncio.to_thread(responder.revert, asked.id, "ana", wall())
    attack.wait_for("ok", applied)
    assert {q.word for q in neighbour.since(0.0)} == {"ok"}


async def test_a_flood_on_a_port_is_limited(lab: Lab, agent: AgentProcess, responder: Responder) -> None:
    agent.start()
    asked = decision("rate_limit", (), (known(WEB, PORT),))
    nobody, action = await asyncio.to_thread(responder.respond, asked, wall())
    assert (nobody.outcome, nobody.reason) == ("refused", "no_attacker")
    assert action.outcome == "applied", action.message
    assert 10 <= open_many(lab, "outside", WEB.ip4, 100) <= 40
    assert open_many(lab, "client1", WEB.ip4, 10) == 10


async def test_what_the_node_refuses_is_not_called_applied(lab: Lab, agent: AgentProcess, responder: Responder) -> None:
    agent.start(never=f'["{pods.OUTSIDE4}/32"]')
    asked = decision("cut_on_node", (known(ATTACKER),), (Endpoint(ip=pods.OUTSIDE4),))
    (action,) = await asyncio.to_thread(responder.respond, asked, wall())
    assert (action.outcome, action.reason) == ("failed", "protected")
