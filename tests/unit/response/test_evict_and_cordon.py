"""evict_pod and cordon_node: off unless asked for, bounded, and what is left of them to undo."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from response.api_objects import read_node
from response.plan import cuts_attackers
from response.settings import ResponseSettings
from schemas.policy.cluster import Node, Pod
from schemas.response import ActionName
from tests.unit.response.cluster_cases import NODE, NOW, VIEW, WEB, MemoryGateway, decision, end
from tests.unit.response.test_orders import RESPONSE, Desk

ON = ResponseSettings(opt_in=("evict_pod", "cordon_node"))
SUSPECT = replace(WEB, uid="uid-1", controller="ReplicaSet/web-aa", node="node-1")
TWIN = replace(SUSPECT, name="web-c", uid="uid-3", ips=("10.0.0.12",), node="node-2")
HOST = Pod("shop", "agent", {"app": "agent"}, NODE, host_network=True, node="node-1", uid="uid-9")
NODES = (Node("node-1"), Node("node-2"), Node("control", control_plane=True))


def desk(
    *pods: Pod, nodes: tuple[Node, ...] | None = NODES, settings: ResponseSettings = ON, fail_on: tuple[str, ...] = ()
) -> Desk:
    others = tuple(pod for pod in VIEW.pods if pod.key != WEB.key)
    gateway = MemoryGateway(replace(VIEW, pods=(*(pods or (SUSPECT,)), *others)), machines=nodes, fail_on=fail_on)
    return Desk(settings, gateway)


def refused(made: Desk, name: ActionName, **more: Any) -> str:
    (action,) = made.decided(decision(name, mode="enforce", **more))
    assert action.outcome == "refused", action.message
    assert (made.gateway.evicted, made.gateway.cordons) == ([], {})
    return action.reason


@pytest.mark.parametrize("name", ["evict_pod", "cordon_node"])
def test_they_must_be_asked_for(name: ActionName) -> None:
    assert refused(desk(settings=ResponseSettings()), name) == "not_opted_in"


@pytest.mark.parametrize("name", ["evict_pod", "cordon_node"])
def test_nobody_is_evicted_or_cordoned_on_evidence_that_could_be_forged(name: ActionName) -> None:
    assert refused(desk(), name, spoofable=True) == "spoofable"


def test_an_eviction_is_of_just_that_pod_and_done_once() -> None:
    made = desk()
    (action,) = made.decided(decision("evict_pod", mode="enforce"))
    assert (action.outcome, action.reason, action.undo) == ("applied", "nothing_to_prove", ())
    assert made.gateway.evicted == ["shop/web-a uid-1"]
    assert made.looked(NOW + 60) == [], "that the pod is gone is no drift"
    assert made.said("extend", seconds=3600) == ["extended command"]
    assert made.gateway.evicted == ["shop/web-a uid-1"]
    (again,) = made.decided(decision("evict_pod", mode="enforce", alert_revision=2))
    assert (again.outcome, again.reason) == ("refused", "gone")
    assert made.looked(NOW + 3602)[-1] == "expired expired"


def test_packets_show_whether_the_attack_ended_with_it() -> None:
    (action,) = desk().decided(decision("evict_pod", mode="enforce"))
    assert [(pair.source, pair.destination) for pair in action.watch] == [("10.0.0.10/32", "203.0.113.9/32")]
    assert not cuts_attackers("cordon_node")


def test_a_disruption_budget_that_says_no_is_told() -> None:
    made = desk(fail_on=("apply Eviction",))
    (action,) = made.decided(decision("evict_pod", mode="enforce"))
    assert action.outcome == "failed"
    assert made.gateway.evicted == []


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (replace(SUSPECT, controller="", workload=""), "not_replaceable"),
        (replace(SUSPECT, uid=""), "no_details"),
    ],
)
def test_a_pod_that_nobody_replaces_or_that_could_be_another_is_not_evicted(pod: Pod, reason: str) -> None:
    assert refused(desk(pod), "evict_pod") == reason


def test_one_pod_of_a_workload_at_a_time() -> None:
    assert refused(desk(SUSPECT, TWIN), "evict_pod", attackers=(end(SUSPECT), end(TWIN))) == "one_at_a_time"


def test_a_cordon_is_written_ours_and_undone() -> None:
    made = desk()
    (action,) = made.decided(decision("cordon_node", mode="enforce"))
    assert (action.outcome, action.target) == ("applied", "node/node-1"), action.message
    written = made.gateway.cordons["node-1"]
    assert written["spec"] == {"unschedulable": True}
    assert written["metadata"]["labels"] == {"sluicegate.io/response": RESPONSE}
    assert made.looked(NOW + 50) == []
    assert made.decided(decision("cordon_node", mode="enforce", alert_revision=2)) == (), "a repeat is none"
    (managed,) = made.gateway.managed()
    assert managed.undo == action.undo
    assert "missed deadline" in made.looked(NOW + 61), "it stops nothing"
    assert made.looked(NOW + 601) == ["expired expired"]
    assert made.gateway.cordons == {}


def test_an_uncordoned_node_is_cordoned_again() -> None:
    made = desk()
    made.decided(decision("cordon_node", mode="enforce"))
    written = made.gateway.cordons["node-1"]
    made.gateway.cordons["node-1"] = {**written, "spec": {}}
    assert made.looked(NOW + 50) == ["repaired drift"]
    assert made.gateway.cordons["node-1"]["spec"] == {"unschedulable": True}


def test_an_attacker_on_the_nodes_own_network_is_what_it_is_for() -> None:
    made = desk(SUSPECT, HOST)
    (action,) = made.decided(decision("cordon_node", mode="enforce", attackers=(end(HOST),)))
    assert (action.outcome, action.target) == ("applied", "node/node-1"), action.message


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (None, "no_details"),
        ((Node("node-2"),), "no_details"),
        ((Node("node-1", control_plane=True), Node("node-2")), "control_plane"),
        ((Node("node-1", unschedulable=True), Node("node-2")), "already_cordoned"),
        ((Node("node-1"), Node("node-2", unschedulable=True)), "last_node"),
        ((Node("node-1"), Node("node-2", ready=False)), "last_node"),
        ((Node("node-1"), Node("node-2", control_plane=True)), "last_node"),
        ((Node("node-1"),), "last_node"),
        ((Node("node-1"), Node("node-2", unschedulable=True, response_id="r"), Node("node-3")), "one_at_a_time"),
    ],
)
def test_a_node_is_not_cordoned(nodes: tuple[Node, ...] | None, reason: str) -> None:
    assert refused(desk(nodes=nodes), "cordon_node") == reason


def test_attackers_on_two_nodes_cordon_none() -> None:
    assert refused(desk(SUSPECT, TWIN), "cordon_node", attackers=(end(SUSPECT), end(TWIN))) == "one_at_a_time"
    assert refused(desk(replace(SUSPECT, node="")), "cordon_node") == "no_node"


def test_nodes_are_read() -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    plain = read_node({"metadata": {"name": "a"}, "status": ready})
    assert plain == Node("a")
    assert not read_node({"metadata": {"name": "a"}}).ready
    assert read_node({"metadata": {"name": "a", "labels": {"node-role.kubernetes.io/control-plane": ""}}}).control_plane
    taint = {"key": "node-role.kubernetes.io/master", "effect": "NoSchedule"}
    assert read_node({"metadata": {"name": "a"}, "spec": {"taints": [taint]}}).control_plane
    labels = {"sluicegate.io/response": "r"}
    held = read_node({"metadata": {"name": "a", "labels": labels}, "spec": {"unschedulable": True}, "status": ready})
    assert held == Node("a", unschedulable=True, response_id="r")
