"""Lateral movement: chains, fan-out, remote execution and new connections, before and after habits are known."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from schemas.alert import Alert
from schemas.event_codec import EventMessage
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import BEGIN, CONVERSATION, Node, Row, flow

A, B, C, D = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"
LEARNING = 100


def run(messages: Sequence[EventMessage], identities: IdentityTable | None = None) -> list[Alert]:
    settings = PipelineSettings(detectors={"lateral_movement": {"learning": LEARNING}})
    found = [a for output in Pipeline(Parts(settings, identities)).run(messages) for a in output.alerts]
    return [a for a in found if a.detector == "lateral_movement"]


def talk(src: str, dst: str, port: int = 22, **more: object) -> Row:
    return flow(src, dst, port, marks=CONVERSATION) | more


def played(seconds: dict[int, list[Row]], identities: IdentityTable | None = None) -> list[Alert]:
    """Ordinary traffic in second 1 begins the watch."""
    node = Node()
    rows = {1: [talk("10.0.0.99", "10.0.0.98", 80)]} | seconds
    return run([node.second(at, flows=rows[at]) for at in sorted(rows)], identities)


def said(alerts: Sequence[Alert]) -> list[tuple[str, str]]:
    """Severity of the last revision and the main evidence of each alert."""
    last = {a.id: a for a in alerts}
    return sorted((a.severity, a.evidence[0].name) for a in last.values())


LATER = LEARNING + 50


def test_a_chain_is_grave_once_habits_are_known() -> None:
    alerts = played({LATER: [talk(A, B)], LATER + 60: [talk(B, C)]})
    assert ("high", "hops") in said(alerts)
    (chain,) = [a for a in alerts if a.evidence[0].name == "hops"]
    assert [e.ip for e in chain.attackers] == [B, A]
    assert [(e.ip, e.port) for e in chain.victims] == [(C, 22), (B, None)]


def test_a_chain_before_is_told_and_slight() -> None:
    assert said(played({5: [talk(A, B)], 20: [talk(B, C)]})) == [("low", "hops")]


@pytest.mark.parametrize(
    "seconds",
    [
        {5: [talk(A, B)], 700: [talk(B, C)]},  # too late to be a consequence, and still a new connection
        {5: [talk(A, B)], 20: [talk(B, A)]},  # back to where it came from
        {5: [talk(A, B, 80)], 20: [talk(B, C)]},  # a web server's back end
        {5: [talk(A, B)], 20: [talk(B, "203.0.113.5")]},  # outward is another detector's
        {5: [talk(A, B, marks=1)], 20: [talk(B, C)]},  # nobody answered
    ],
)
def test_what_is_no_chain(seconds: dict[int, list[Row]]) -> None:
    assert "hops" not in [name for _, name in said(played(seconds))]


def test_known_connections_are_silent_and_new_ones_are_told() -> None:
    habit = {at: [talk(A, B), talk(B, C)] for at in (5, 6)}
    assert said(played({6: [talk(A, B)], LATER: [talk(A, B)]})) == []
    assert said(played(habit | {LATER: [talk(A, B), talk(B, C)]})) == [("low", "hops")]  # of the first day only
    assert said(played({LATER: [talk(A, B)]})) == [("low", "watched")]


@pytest.mark.parametrize(("count", "name"), [(4, "watched"), (5, "new_hosts")])
def test_fan_out_at_and_above_the_limit(count: int, name: str) -> None:
    alerts = played({LATER: [talk(A, f"10.0.1.{n}") for n in range(count)]})
    assert name in [n for _, n in said(alerts)]
    assert ("medium" in [s for s, _ in said(alerts)]) == (count == 5)


def test_who_has_many_hosts_may_get_some_more() -> None:
    """A scheduler with twenty hosts, and ten that are added in one go."""
    habit = {at: [talk(A, f"10.0.1.{at}")] for at in range(2, 22)}
    alerts = played(habit | {LATER + 700: [talk(A, f"10.0.2.{n}") for n in range(10)]})
    assert "medium" not in [s for s, _ in said(alerts)]


def test_remote_execution_needs_both_services_and_no_domain() -> None:
    both = [talk(A, B, 445), talk(A, B, 135)]
    assert said(played({LATER: both})) == [("low", "watched"), ("medium", "admin_services")]
    assert "admin_services" not in [n for _, n in said(played({LATER: both[:1]}))]
    assert "admin_services" not in [n for _, n in said(played({5: [talk(C, B, 88)], LATER: both}))]


def pod(ip: str, workload: str, namespace: str = "shop") -> InventoryObject:
    return InventoryObject(kind="Pod", uid=ip, namespace=namespace, name=f"p{ip}", ips=(ip,), workload=workload)


def test_replicas_share_habits() -> None:
    identities = IdentityTable([pod(A, "Deployment/ci"), pod(B, "Deployment/ci"), pod(C, "StatefulSet/git")])
    assert said(played({5: [talk(A, C)], LATER: [talk(B, C)]}, identities)) == []


@pytest.mark.parametrize(
    "item",
    [
        InventoryObject(kind="Node", uid="n", name="node1", ips=(B,)),
        pod(B, "Deployment/metrics-server", "kube-system"),
    ],
    ids=["node", "system"],
)
def test_nodes_and_system_pods_may(item: InventoryObject) -> None:
    rows = [talk(B, f"10.0.1.{n}", 10250) for n in range(9)]
    assert said(played({LATER: [talk(A, B)], LATER + 5: rows}, IdentityTable([item]))) == [("low", "watched")]


def write(payload: int, answered: int = 2_000, port: int = 445, src: str = A) -> Row:
    return talk(src, B, port, src_payload=payload, dst_payload=answered)


@pytest.mark.parametrize(
    ("written", "rpc", "expected"),
    [
        ([write(148_000)], [talk(A, B, 135)], True),  # known pair, domain server: still
        ([write(39_000)], [talk(A, B, 135)], False),  # a policy is asked for, not written
        ([write(148_000, 20_000)], [talk(A, B, 135)], False),  # copying both ways
        ([write(148_000, 0)], [talk(A, B, 135)], False),  # nobody answered
        ([write(148_000, port=80)], [talk(A, B, 135)], False),  # an upload to a web server
        ([write(148_000)], [], False),  # a file on a share
        ([write(148_000)], [talk(C, B, 135)], False),  # another's RPC
    ],
)
@pytest.mark.parametrize("later", [0, 5])
def test_a_program_written_beside_rpc_is_told_at_once(
    written: list[Row], rpc: list[Row], expected: bool, later: int
) -> None:
    habit = [talk(A, B, 445), talk(A, B, 135), talk(A, B, 389)]
    seconds: dict[int, list[Row]] = {3: habit, 20: written}
    seconds[20 + later] = [*seconds.get(20 + later, []), *rpc]
    found = [one for one in said(played(seconds)) if one == ("medium", "program")]
    assert found == ([("medium", "program")] if expected else [])


def test_who_installs_programs_every_day_does_so_silently() -> None:
    day = {at: [write(148_000), talk(A, B, 135)] for at in (20, LATER, LATER + 700)}
    told = {a.id for a in played(day) if a.evidence[0].name == "program"}
    assert len(told) == 1


def test_a_workload_that_a_rollout_brings_to_another_node_is_new_there_for_a_while_only() -> None:
    """Of a workload that is known here it would be a fan-out; it begins like a node that is not watched."""
    hosts = [f"10.0.9.{number}" for number in range(1, 9)]

    def told(here: int, elsewhere: int | None) -> list[tuple[str, str]]:
        def ops(name: str, ip: str, node: str, begin: int) -> InventoryObject:
            return InventoryObject(kind="Pod", uid=name, namespace="shop", name=name, ips=(ip,), node=node,
                                   workload="Deployment/ops", valid_from=BEGIN + begin)  # fmt: skip

        pods = [ops("ops-2", A, "node1", here)]
        pods += [ops("ops-1", B, "node2", elsewhere)] if elsewhere is not None else []
        return said(played({LATER: [talk(A, host) for host in hosts]}, IdentityTable(pods)))

    assert told(LATER - 5, elsewhere=-500) == [("low", "new_hosts")]
    assert ("medium", "new_hosts") in told(LATER - LEARNING - 5, elsewhere=-500)
    assert ("medium", "new_hosts") in told(LATER - 5, elsewhere=LATER - 20)
    assert ("medium", "new_hosts") in told(LATER - 5, elsewhere=None)
