"""Pods that begin to speak to the cluster's own interfaces, and those that always did, or may."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pytest

from schemas.alert import Alert
from schemas.event_codec import EventMessage
from schemas.exceptions import RoleRule, Selector
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import BEGIN, CONVERSATION, OPENED, Node, Row, flow

POD, REPLICA, SYSTEM, NODE, API, METADATA = (
    "10.244.1.5", "10.244.1.6", "10.244.1.9", "192.168.7.1", "10.96.0.1", "169.254.169.254",
)  # fmt: skip
LEARNING, SETTLE = 300, 100
LATER = LEARNING + 200


def pod(ip: str, workload: str = "Deployment/web", namespace: str = "shop", born: int = -5000) -> InventoryObject:
    name = f"pod-{ip}"
    return InventoryObject(kind="Pod", uid=name, namespace=namespace, name=name, ips=(ip,), workload=workload,
                           valid_from=BEGIN + born)  # fmt: skip


def identities(*more: InventoryObject) -> IdentityTable:
    return IdentityTable([
        InventoryObject(kind="Service", uid="api", namespace="default", name="kubernetes", ips=(API,)),
        InventoryObject(kind="Service", uid="shop", namespace="shop", name="shop", ips=("10.96.0.9",)),
        InventoryObject(kind="Node", uid="node", name="node1", ips=(NODE,)),
        pod(POD), pod(REPLICA), pod(SYSTEM, "DaemonSet/agent", "kube-system"), *more,
    ])  # fmt: skip


def run(messages: Sequence[EventMessage], who: IdentityTable) -> list[Alert]:
    settings = PipelineSettings(detectors={"kube_api_abuse": {"learning": LEARNING, "settle": SETTLE}})
    found = [a for output in Pipeline(Parts(settings, who)).run(messages) for a in output.alerts]
    return [a for a in found if a.detector == "kube_api_abuse"]


def talk(dst: str, port: int, src: str = POD, marks: int = CONVERSATION) -> Row:
    return flow(src, dst, port, marks=marks)


def severities(seconds: dict[int, list[Row]], who: IdentityTable | None = None) -> list[str]:
    """Ordinary traffic in second 1 begins the watch."""
    node = Node()
    rows = {1: [talk("10.244.1.77", 80)]} | seconds
    alerts = run([node.second(at, flows=rows[at]) for at in sorted(rows)], who or identities())
    return sorted({a.id: a.severity for a in alerts}.values())


@pytest.mark.parametrize(("dst", "port", "expected"), [
    (API, 443, ["medium"]), (NODE, 6443, ["medium"]), (NODE, 10250, ["high"]), (NODE, 10255, ["high"]),
    (NODE, 2379, ["high"]), (METADATA, 80, ["medium"]), ("10.96.0.9", 443, []), ("10.244.1.77", 10250, []),
    ("10.244.1.77", 2379, []), ("10.244.1.77", 80, []), (NODE, 443, []),
])  # fmt: skip
def test_first_contacts_of_a_pod_that_lives_for_long(dst: str, port: int, expected: list[str]) -> None:
    assert severities({LATER: [talk(dst, port)]}) == expected
    assert severities({LATER: [talk(dst, port, marks=OPENED)]}) == expected  # tried is enough


@pytest.mark.parametrize("marks", [CONVERSATION, 0], ids=["opened", "was there before"])
def test_habits_are_silent(marks: int) -> None:
    assert severities({5: [talk(API, 443, marks=marks)], LATER: [talk(API, 443)]}) == []


def test_replicas_share_habits() -> None:
    assert severities({5: [talk(API, 443)], LATER: [talk(API, 443, REPLICA)]}) == []


def test_one_interface_explains_no_other() -> None:
    assert severities({5: [talk(API, 443)], LATER: [talk(NODE, 10250)]}) == ["high"]


def test_a_pod_that_begins_with_it_is_how_its_program_starts() -> None:
    young = identities(pod("10.244.1.8", "Deployment/operator", born=LATER - 30))
    assert severities({LATER: [talk(API, 443, "10.244.1.8")]}, young) == []
    assert severities({LATER: [talk(NODE, 10250, "10.244.1.8")]}, young) == ["low"]
    assert severities({LATER: [talk(API, 443, "10.244.1.8")], LATER + 300: [talk(API, 443, "10.244.1.8")]}, young) == []


def test_before_habits_are_known_little_is_said() -> None:
    assert severities({20: [talk(API, 443)]}) == []
    assert severities({20: [talk(METADATA, 80)]}) == ["low"]


def test_an_alert_ends_and_becomes_a_habit() -> None:
    again = {at: [talk(API, 443)] for at in range(LATER, LATER + 2000, 50)}
    assert severities(again) == ["medium"]


def test_who_may() -> None:
    every = [(API, 443), (NODE, 10250), (NODE, 2379), (METADATA, 80)]
    for src in (SYSTEM, NODE, "10.9.9.9"):  # the control plane, a node, and somebody without identity
        assert severities({LATER: [talk(dst, port, src) for dst, port in every]}) == []


def test_a_declared_scraper_reads_kubelets() -> None:
    who = identities()
    who.declare([RoleRule("monitoring_scraper", Selector(cidrs=(ipaddress.ip_network(POD),)))])
    assert severities({LATER: [talk(NODE, 10250)]}, who) == []
    assert severities({LATER: [talk(NODE, 2379)]}, who) == ["high"]


def test_who_did_what_is_said() -> None:
    node = Node()
    alerts = run([node.second(1, flows=[talk(NODE, 22)]), node.second(LATER, flows=[talk(NODE, 10250)])], identities())
    (alert,) = {a.id: a for a in alerts}.values()
    assert [(e.ip, e.workload) for e in alert.attackers] == [(POD, "Deployment/web")]
    assert [(e.ip, e.port) for e in alert.victims] == [(NODE, 10250)]
    assert "shop/Deployment/web (10.244.1.5) begins to speak to a kubelet at 192.168.7.1" in alert.explanation
    assert alert.techniques == ("T1609",)
    assert not alert.spoofable


def test_a_replica_on_a_new_node_does_what_its_siblings_did_at_their_start() -> None:
    def replica(name: str, ip: str, node: str, born: int) -> InventoryObject:
        return InventoryObject(kind="Pod", uid=name, namespace="shop", name=name, ips=(ip,), node=node,
                               workload="Deployment/scraper", valid_from=BEGIN + born)  # fmt: skip

    young = replica("scraper-2", "10.244.1.50", "node1", LATER - 10)
    asks = {LATER: [talk(NODE, 10250, "10.244.1.50")]}
    assert severities(asks, identities(young, replica("scraper-1", "10.244.2.50", "node2", -5000))) == []
    assert severities(asks, identities(young)) == ["low"]
    # Its sibling on this very node never asked; it is no newcomer here.
    assert severities(asks, identities(young, replica("scraper-1", "10.244.1.51", "node1", -5000))) == ["low"]
    late = {LATER + SETTLE: [talk(NODE, 10250, "10.244.1.50")]}
    assert severities(late, identities(young, replica("scraper-1", "10.244.2.50", "node2", -5000))) == ["high"]
