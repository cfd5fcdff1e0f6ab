"""Ways to trick a responder into hurting its owner, and what it does instead.

Each trick is an attacker's move as the responder sees it. `docs/tricks.md` holds the same table for people.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from response.settings import BudgetSettings, ResponseSettings
from schemas.finding import Endpoint
from schemas.policy.addresses import span_of_cidr
from schemas.policy.cluster import ClusterView, Pod, Service
from schemas.response import ResponseDecision
from tests.unit.response.cluster_cases import API, DB, DNS, NODE, NOW, VIEW, WEB, WEB_B, MemoryGateway, decision, end
from tests.unit.response.test_orders import RESPONSE, Desk

DOCS = Path(__file__).resolve().parents[3] / "docs" / "tricks.md"
OWN = Pod("watch", "worker-0", {"app.kubernetes.io/part-of": "sluicegate"}, ("10.0.5.1",), node_ips=NODE)
APISERVER = Pod(
    "kube-system", "kube-apiserver", {"component": "kube-apiserver"}, NODE, host_network=True, node_ips=NODE
)
INGRESS = Pod("ingress", "nginx-1", {"app": "nginx"}, ("10.0.6.1",), node_ips=NODE, workload="Deployment/nginx")
EXEMPT = Pod("till", "pos-1", {"app": "pos"}, ("10.0.7.1",), node_ips=NODE, workload="Deployment/pos")
WORLD = replace(
    VIEW,
    pods=(*VIEW.pods, OWN, APISERVER, INGRESS, EXEMPT),
    namespaces={**VIEW.namespaces, "watch": {}, "ingress": {}, "till": {"sluicegate.io/exempt": "true"}},
    services=(*VIEW.services, Service("default", "kubernetes", ("10.96.0.1",))),
    shared=(span_of_cidr("192.0.2.0/28"),),
)
DEFAULTS = ResponseSettings()


@dataclass(frozen=True)
class Trick:
    """An attacker's move, and the last thing that the responder says to it."""

    title: str
    asked: Callable[[], ResponseDecision]
    said: str
    settings: ResponseSettings = DEFAULTS
    view: ClusterView = WORLD
    prepare: Callable[[Desk], None] = lambda _: None


def outside(ip: str, **more: Any) -> Endpoint:
    return Endpoint(ip=ip, **more)


def from_outside(*ends: Endpoint, victim: Pod = WEB, **more: Any) -> Callable[[], ResponseDecision]:
    values = {"attackers": ends, "victims": (end(victim, 80, "TCP"),), "mode": "enforce", **more}
    return lambda: decision("block_ingress_source", **values)


def from_pod(pod: Pod, *actions: Any, **more: Any) -> Callable[[], ResponseDecision]:
    return lambda: decision(*(actions or ("quarantine_pod",)), attackers=(end(pod),), **{"mode": "enforce", **more})


def _many(desk: Desk) -> None:
    for number in range(6):
        asked = decision("quarantine_pod", mode="enforce", id=f"flood-{number}",
                         attackers=(end(desk.gateway.base.pods[number % 4]),))  # fmt: skip
        desk.decided(asked)


def _allowed(desk: Desk) -> None:
    desk.said("allow", "shop/Deployment/web", reason="the shop")


def _labelled(pod: Pod, **labels: str) -> ClusterView:
    changed = replace(pod, labels={**pod.labels, **labels})
    return replace(WORLD, pods=tuple(changed if p.key == pod.key else p for p in WORLD.pods))


TRICKS = (
    Trick("forged source addresses", from_outside(outside("203.0.113.9"), spoofable=True), "refused spoofable"),
    Trick("a forged flood 'from' the cluster's own pod", from_pod(DB, spoofable=True), "refused spoofable"),
    Trick("a flood under others' addresses that a pod's interface proves to be its own, to be blocked by address",
          from_outside(end(WEB).model_copy(update={"interface": "veth1", "forged": (DB.ips[0],)}), victim=DB),
          "refused forges"),
    Trick("an attack 'from' the DNS server", from_pod(DNS), "refused protected"),
    Trick("an attack 'on' the DNS server, so that DNS is cut as destination",
          from_pod(WEB, "block_egress_destination", victims=(end(DNS, 53, "UDP"),)), "refused dns_cut"),
    Trick("an attack 'on' the DNS Service's address",
          from_pod(WEB, "block_egress_destination", victims=(outside("10.96.0.10", port=53),)),
          "refused service_address"),
    Trick("an attack 'from' the API server", from_pod(APISERVER), "refused host_network"),
    Trick("an attack 'from' the API server's Service address", from_outside(outside("10.96.0.1")),
          "refused service_address"),
    Trick("an attack 'from' an API server outside the cluster", from_outside(outside("198.51.100.1")),
          "refused protected_address", ResponseSettings(protected_addresses=("198.51.100.0/30",))),
    Trick("an attack 'from' a node's address", from_outside(outside(NODE[0])), "refused shared_address"),
    Trick("an attack from behind a NAT address shared by many", from_outside(outside("192.0.2.7")),
          "refused shared_address"),
    Trick("an attack through the ingress controller",
          from_outside(end(INGRESS).model_copy(update={"roles": ("ingress",)})), "refused shared_address"),
    Trick("an attack through a load balancer", from_outside(outside("203.0.113.50", roles=("load_balancer",))),
          "refused shared_address"),
    Trick("an attack 'from' the monitoring system",
          from_outside(outside("203.0.113.60", roles=("monitoring_scraper",))), "refused shared_address"),
    Trick("an attack 'from' a resolver outside", from_outside(outside("203.0.113.53", roles=("resolver",))),
          "refused shared_address"),
    Trick("an attack 'from' a resolver that only the settings name", from_outside(outside("203.0.113.54")),
          "refused protected_address", ResponseSettings(dns_addresses=("203.0.113.54",))),
    Trick("an attack 'from' this system's own component", from_pod(OWN), "refused own_component"),
    Trick("a pod that calls itself a component of this system", from_pod(WEB, "quarantine_pod"),
          "refused own_component", view=_labelled(WEB, **{"app.kubernetes.io/part-of": "sluicegate"})),
    Trick("a pod that labels itself exempt", from_pod(WEB, "quarantine_pod"), "refused exempt",
          view=_labelled(WEB, **{"sluicegate.io/exempt": "true"})),
    Trick("an attack 'from' an exempt namespace", from_pod(EXEMPT), "refused exempt"),
    Trick("an attack 'from' the address 0.0.0.0", from_outside(outside("0.0.0.0")), "refused special_address"),
    Trick("an attack 'from' a multicast address", from_outside(outside("224.0.0.1")), "refused special_address"),
    Trick("an attack 'from' loopback", from_outside(outside("127.0.0.1")), "refused special_address"),
    Trick("IPv4 dressed as IPv6 to pass as a stranger", from_outside(outside(f"::ffff:{NODE[0]}")),
          "refused shared_address"),
    Trick("an address that another pod got meanwhile",
          lambda: decision("quarantine_pod", mode="enforce",
                           attackers=(end(WEB).model_copy(update={"ip": API.ips[0]}),)), "refused identity_changed"),
    Trick("a pod that vanishes before it is contained",
          lambda: decision("quarantine_pod", mode="enforce",
                           attackers=(end(WEB).model_copy(update={"pod": "web-zz"}),)), "refused gone"),
    Trick("a name that no inventory knows",
          lambda: decision("quarantine_pod", mode="enforce", attackers=(outside("10.0.0.10"),)),
          "refused unknown_identity"),
    Trick("labels copied from another workload, so that its pods are selected too",
          from_pod(WEB, "block_egress_destination"), "refused selects_others",
          view=replace(WORLD, pods=(*WORLD.pods, replace(DB, name="db-1", labels=WEB.labels, ips=("10.0.0.30",))))),
    Trick("another response's quarantine label written by hand", from_pod(WEB, "quarantine_pod"),
          "refused already_quarantined", view=_labelled(WEB, **{"sluicegate.io/quarantine": "somebody"})),
    Trick("a response id that is a path", from_pod(WEB, id="../../x"), "refused bad_id"),
    Trick("a response id that is a label selector", from_pod(WEB, id="a,b!=c"), "refused bad_id"),
    Trick("a decision of another cluster with the same pod names", lambda: from_pod(WEB)().model_copy(
        update={"cluster": "other"}), "refused other_cluster"),
    Trick("an old decision sent again", from_pod(WEB, decided_tick=NOW - 86_400), "refused stale"),
    Trick("a flood of alerts, to contain everybody", from_pod(INGRESS, id="last"), "refused budget_minute",
          ResponseSettings(budgets=BudgetSettings(per_minute=3, replica_share=1)), prepare=_many),
    Trick("a flood of alerts spread over hours", from_pod(INGRESS, id="last"), "refused budget_stop",
          ResponseSettings(budgets=BudgetSettings(stop_after=3, replica_share=1)), prepare=_many),
    Trick("all replicas of one workload accused at once",
          lambda: decision("quarantine_pod", mode="enforce", attackers=(end(WEB), end(WEB_B))),
          "refused budget_replicas"),
    Trick("somebody accused whom an operator allows", from_pod(WEB, "quarantine_pod"), "refused allowed",
          prepare=_allowed),
    Trick("a victim in the whole IPv6 internet's first half, blocked by prefix",
          from_outside(outside("fd00::21"), victim=DB), "applied proven", ResponseSettings(ipv6_prefix=64)),
)  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS, ids=[item.title for item in TRICKS])
def test_a_trick(trick: Trick) -> None:
    desk = Desk(trick.settings, MemoryGateway(base=trick.view))
    trick.prepare(desk)
    held, labels = dict(desk.gateway.policies), dict(desk.gateway.pod_metadata)
    actions = desk.decided(trick.asked())
    assert [f"{a.outcome} {a.reason}" for a in actions][-1:] == [trick.said], actions[-1].message
    assert actions[-1].message
    if trick.said.startswith("refused"):
        assert (desk.gateway.policies, desk.gateway.pod_metadata) == (held, labels)


def test_a_prefix_that_holds_a_pod_of_ours_is_not_blocked_as_a_whole() -> None:
    desk = Desk(ResponseSettings(ipv6_prefix=64), MemoryGateway(base=WORLD))
    desk.decided(from_outside(outside("fd00::21"), victim=DB)())
    (written,) = desk.gateway.policies.values()
    assert "fd00::21/128" in str(written["spec"])
    assert "fd00::/64" not in str(written["spec"])
    free = Desk(ResponseSettings(ipv6_prefix=64), MemoryGateway(base=WORLD))
    free.decided(from_outside(outside("2001:db8::21"), victim=DB)())
    (written,) = free.gateway.policies.values()
    assert "2001:db8::/64" in str(written["spec"])


def test_a_forged_command_contains_and_frees_nobody() -> None:
    desk = Desk(gateway=MemoryGateway(base=WORLD))
    desk.decided(from_pod(WEB, "quarantine_pod")())
    held = dict(desk.gateway.policies)
    forged = desk.command("revert", RESPONSE).model_copy(update={"target": "another"})
    assert desk.obeyed(forged) == ["refused bad_signature"]
    assert desk.gateway.policies == held


def table() -> str:
    """The tricks as the page shows them."""
    rows = [f"| {number} | {item.title} | {item.said} |" for number, item in enumerate(TRICKS, 1)]
    return "\n".join(["| | trick | what it did |", "|---|---|---|", *rows]) + "\n"


def test_the_page_holds_the_table() -> None:
    assert len(TRICKS) >= 30
    assert table() in DOCS.read_text(encoding="utf-8"), f"docs/tricks.md: replace its table by\n{table()}"
