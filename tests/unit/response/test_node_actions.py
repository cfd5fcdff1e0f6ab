"""Plans that nodes carry out: what is cut or limited where, what is proven of it, and how it is commanded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from response.gateway import ClusterError
from response.node.commands import IssuedCommands, manifest_of
from response.node.gateway import NodeGateway, command_of
from response.node.settings import NodeStepSettings
from response.plan import Attempt, PlanContext, climb
from response.responder import Responder
from response.settings import ResponseSettings
from response.signing import Operator, Signer, Verifier
from schemas.finding import Endpoint
from schemas.node_command import NodeCommand
from schemas.policy.cluster import ClusterView
from schemas.response import ActionName, ResponseDecision
from schemas.watch import WatchRow
from tests.unit.response.cluster_cases import (
    API,
    DB,
    DNS,
    NOW,
    OUTSIDE,
    VIEW,
    WEB,
    MemoryGateway,
    decision,
    end,
    policy,
)

EXPIRES = "2027-01-15T08:10:00.000Z"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = Signer("responder", KEY)
SETTINGS = ResponseSettings(node_steps=NodeStepSettings(enabled=True))
PLACED = replace(VIEW, pods=tuple(replace(pod, node=f"node-{pod.namespace}") for pod in VIEW.pods))


def last(asked: ResponseDecision, view: ClusterView = PLACED, settings: ResponseSettings = SETTINGS) -> Attempt:
    return climb(PlanContext(asked, view, settings, EXPIRES))[-1]


def reason(asked: ResponseDecision, view: ClusterView = PLACED, settings: ResponseSettings = SETTINGS) -> str:
    found = last(asked, view, settings)
    return found.refusal.reason if found.refusal else "proven"


def spec(attempt: Attempt) -> dict[str, Any]:
    assert attempt.refusal is None, attempt.refusal
    assert attempt.plan is not None
    (manifest,) = attempt.plan.manifests
    found: dict[str, Any] = manifest["spec"]
    return found


def test_an_attacking_pod_is_cut_on_its_own_node_whatever_policies_allow() -> None:
    allows_all = policy("shop/open", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]})
    found = last(decision("cut_on_node"), replace(PLACED, policies=(allows_all,)))
    assert spec(found)["node"] == "node-shop"
    assert [(cut["source"], cut["destination"]) for cut in spec(found)["cuts"]] == [("10.0.0.10", "203.0.113.9")]
    assert found.proof is not None
    assert [(row.after, row.blocked) for row in found.proof.attack] == [("dropped on the node", True)]
    assert found.proof.narrower
    assert found.proof.peers_cut == ()


def test_an_attacker_outside_is_cut_off_on_the_node_of_its_victim() -> None:
    found = last(decision("cut_on_node", attackers=(OUTSIDE,), victims=(end(API, 443, "TCP"),)))
    assert spec(found)["node"] == "node-bank"


def test_both_versions_of_ip_are_cut_between_pods() -> None:
    six = replace(PLACED.pods[0], ips=("10.0.0.10", "fd00::10"))
    view = replace(PLACED, pods=(six, *PLACED.pods[1:]))
    found = last(decision("cut_on_node", victims=(end(DB),)), view)
    pairs = {(cut["source"], cut["destination"]) for cut in spec(found)["cuts"]}
    assert pairs == {("10.0.0.10", "10.0.0.20"), ("fd00::10", "fd00::20")}
    assert found.proof is not None
    assert "shop/db-0" in found.proof.peers_cut


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"victims": (end(DNS, 53, "UDP"),)}, "dns_cut"),
        ({"victims": (Endpoint(ip="10.9.0.1"),)}, "shared_address"),
        ({"victims": (Endpoint(ip="10.96.0.10"),)}, "service_address"),
        ({"attackers": (Endpoint(ip="203.0.113.8"),)}, "unknown_identity"),
        ({"attackers": (end(replace(WEB, ips=("10.0.0.99",))),)}, "identity_changed"),
        ({"attackers": (end(DNS),)}, "protected"),
        ({"spoofable": True}, "spoofable"),
        ({"attackers": ()}, "no_attacker"),
    ],
)
def test_whom_a_node_never_cuts(changes: dict[str, Any], why: str) -> None:
    assert reason(decision("cut_on_node", **changes)) == why


def test_without_agents_or_a_known_node_there_is_no_plan() -> None:
    asked = decision("cut_on_node")
    assert reason(asked, settings=ResponseSettings()) == "no_node_agent"
    assert reason(asked, VIEW) == "no_node"
    limited = decision("rate_limit", attackers=(OUTSIDE,), victims=(end(WEB, 80, "TCP"),))
    assert reason(limited, settings=ResponseSettings()) == "no_node_agent"
    assert reason(limited, VIEW) == "no_node"


def test_a_flood_from_everywhere_is_limited_though_nobody_can_be_blocked() -> None:
    asked = decision("block_ingress_source", "rate_limit", attackers=(OUTSIDE,), spoofable=True,
                     victims=(end(WEB, 80, "TCP"),))  # fmt: skip
    first, second = climb(PlanContext(asked, PLACED, SETTINGS, EXPIRES))
    assert first.refusal is not None
    assert first.refusal.reason == "spoofable"
    assert spec(second)["limits"] == [
        {"victim": "10.0.0.10", "protocol": "TCP", "port": 80, "per_source": 20, "in_all": 500}
    ]
    assert second.proof is not None
    assert [(row.flow, row.after) for row in second.proof.attack] == [
        ("any → 10.0.0.10 TCP/80", "at most 20/s per source and 500/s in all")
    ]
    assert reason(asked.model_copy(update={"attackers": ()})) == "proven"


@pytest.mark.parametrize(
    ("victims", "why"),
    [
        ((), "no_victim"),
        ((end(WEB),), "no_port"),
        ((end(DNS, 53, "UDP"),), "protected"),
        ((OUTSIDE,), "unknown_identity"),
    ],
)
def test_what_is_not_limited(victims: tuple[Endpoint, ...], why: str) -> None:
    assert reason(decision("rate_limit", attackers=(OUTSIDE,), victims=victims)) == why


@dataclass
class Link:
    """Agents that obey, unless told otherwise."""

    sent: list[NodeCommand] = field(default_factory=list)
    refuses: str = ""

    def send(self, command: NodeCommand) -> None:
        self.sent.append(command)

    def wait_until_set(self, command: NodeCommand) -> None:
        if self.refuses:
            raise ClusterError("the node does not obey", self.refuses)


class Scene:
    """A responder with nodes; time moves by hand."""

    def __init__(self) -> None:
        self.now = float(NOW)
        self.inner = MemoryGateway(base=PLACED)
        self.link = Link()
        self.issued = IssuedCommands()
        self.gateway = NodeGateway(self.inner, self.link, SIGNER, self.issued, "test", lambda: self.now)
        self.responder = Responder(self.gateway, SETTINGS, "test")


CUT = decision("cut_on_node", mode="enforce")


def test_a_step_is_one_signed_command_and_repeats_say_nothing_more() -> None:
    scene = Scene()
    (action,) = scene.responder.respond(CUT, scene.now)
    assert (action.outcome, action.action) == ("applied", "cut_on_node")
    (command,) = scene.link.sent
    known = Verifier({"responder": Operator("responder", "r", KEY.public_key())})
    assert isinstance(known.verify(NodeCommand.decode(command.encode()), scene.now), Operator)
    assert (command.node, command.verb, command.expires_at) == ("node-shop", "apply", action.expires_at)
    scene.now += 30
    scene.responder.respond(CUT, scene.now)
    assert scene.responder.reconcile(scene.now) == ()
    assert len(scene.link.sent) == 1


def test_reverting_and_expiry_lift_what_the_node_does() -> None:
    scene = Scene()
    scene.responder.respond(CUT, scene.now)
    (item,) = scene.gateway.managed()
    assert (item.response_id, item.target) == (CUT.id, "node/node-shop")
    scene.responder.revert(CUT.id, "ana", scene.now + 1)
    assert [command.verb for command in scene.link.sent] == ["apply", "lift"]
    assert scene.gateway.managed() == ()
    other = Scene()
    other.responder.respond(CUT, other.now)
    other.now += 601
    assert [action.outcome for action in other.responder.reconcile(other.now)] == ["expired"]
    assert [command.verb for command in other.link.sent] == ["apply", "lift"]


def test_a_node_that_does_not_obey_fails_the_step_and_is_told_to_let_go() -> None:
    scene = Scene()
    scene.link.refuses = "cilium"
    (action,) = scene.responder.respond(CUT, scene.now)
    assert (action.outcome, action.reason) == ("failed", "cilium")
    assert [command.verb for command in scene.link.sent] == ["apply", "lift"]
    assert scene.gateway.managed() == ()


def test_a_cut_is_proven_apart_from_the_quarantine_that_it_follows() -> None:
    """The quarantine cuts DNS on purpose; the cut does not, and the quarantine goes once the cut stands."""
    scene = Scene()
    (applied,) = scene.responder.respond(decision("quarantine_pod", mode="enforce"), scene.now)
    assert applied.outcome == "applied", applied.message
    scene.now += 10
    (cut,) = scene.responder.respond(CUT, scene.now)
    assert (cut.action, cut.outcome) == ("cut_on_node", "applied"), cut.message
    assert cut.response_id == applied.response_id
    (repaired,) = scene.responder.reconcile(scene.now)
    assert (repaired.outcome, repaired.reason) == ("repaired", "drift")
    assert scene.inner.policies == {}
    assert scene.inner.pod_metadata == {}
    assert scene.responder.reconcile(scene.now) == ()


def test_a_restart_knows_from_the_topic_what_nodes_were_told() -> None:
    scene = Scene()
    scene.responder.respond(CUT, scene.now)
    again = IssuedCommands()
    stranger = Signer("responder", Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))))
    forged = stranger.sign(scene.link.sent[0].model_copy(update={"response_id": "r9"}))
    for command in (*scene.link.sent, forged):
        again.remember(NodeCommand.decode(command.encode()), SIGNER)
    assert again.managed(scene.now) == scene.issued.managed(scene.now)


def test_the_cut_of_a_pod_that_ended_is_lifted_before_another_gets_its_address() -> None:
    scene = Scene()
    scene.responder.respond(CUT, scene.now)
    scene.inner.base = replace(PLACED, pods=tuple(pod for pod in PLACED.pods if pod.name != "web-a"))
    actions = scene.responder.reconcile(scene.now + 1)
    assert [(action.outcome, action.reason) for action in actions] == [("released", "gone")]
    assert [command.verb for command in scene.link.sent] == ["apply", "lift"]


def test_a_command_and_its_manifest_say_the_same() -> None:
    attempt = last(decision("cut_on_node"))
    assert attempt.plan is not None
    (manifest,) = attempt.plan.manifests
    made = manifest_of(command_of(manifest, "test", NOW))
    made["metadata"]["annotations"]["sluicegate.io/reason"] = manifest["metadata"]["annotations"][
        "sluicegate.io/reason"
    ]
    assert made == manifest


@pytest.mark.parametrize(("action", "judged"), [("cut_on_node", ["ineffective"]), ("rate_limit", [])])
def test_answers_fail_a_cut_but_not_a_limit(action: ActionName, judged: list[str]) -> None:
    scene = Scene()
    asked = decision(action, attackers=(end(API),), victims=(end(WEB, 80, "TCP"),), mode="enforce")
    assert scene.responder.respond(asked, scene.now)[-1].outcome == "applied"
    rows = [
        WatchRow(cluster="test", response_id=asked.id, node="n1", tick=NOW + second, attempts=9, answered=9, unsure=0,
                 last_packet=(NOW + second) * 10**9, last_answered=(NOW + second) * 10**9)
        for second in range(1, 40)
    ]  # fmt: skip
    told = scene.responder.watched(rows, NOW + 40.0)
    assert [step.outcome for step in told if step.outcome == "ineffective"] == judged


def test_other_steps_go_to_the_cluster() -> None:
    scene = Scene()
    (action,) = scene.responder.respond(decision("block_egress_destination", mode="enforce"), scene.now)
    assert action.outcome == "applied"
    assert scene.link.sent == []
    assert len(scene.inner.policies) == 1
