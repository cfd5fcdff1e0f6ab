"""What flows show of policies that are not enforced, missing or too wide, and of what should not be reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from detectors.judged_pairs import JudgedPairs
from detectors.rules.misconfiguration import Misconfiguration
from schemas.finding import Finding
from schemas.inventory import InventoryObject, ServicePort
from schemas.policy.networkpolicy import PolicySpec
from tests.event_rows import BEGIN, CONVERSATION, ESTABLISHED, OPENED, UDP, Node, Row, flow
from tests.unit.detectors.one_detector import pod, run


def both(name: str, number: int, workload: str, namespace: str = "shop", **labels: str) -> InventoryObject:
    return pod(name, f"10.0.0.{number}", workload, namespace, **labels).model_copy(
        update={"ips": (f"10.0.0.{number}", f"fd00::{number}")}
    )


DB = both("db", 12, "StatefulSet/db", app="db")
API = both("api", 11, "Deployment/api", app="api")
JOB = both("job", 66, "Job/import", "batch", app="job")
DNS = both("dns", 53, "Deployment/dns", "kube-system", k8s_app="kube-dns")
DNS = DNS.model_copy(update={"labels": {"k8s-app": "kube-dns"}})
NODE = InventoryObject(kind="Node", uid="n", name="n1", ips=("10.0.0.1", "192.0.2.1"))
KNOWN = (DB, API, JOB, DNS, NODE)


def policy(namespace: str, name: str, spec: dict[str, Any], **more: Any) -> InventoryObject:
    told: dict[str, Any] = {"kind": "NetworkPolicy", "uid": f"{namespace}-{name}", "namespace": namespace, "name": name}
    return InventoryObject(**told, policy=PolicySpec.model_validate(spec), **more)


def app(name: str) -> dict[str, Any]:
    return {"matchLabels": {"app": name}}


DENY = policy("shop", "deny", {"podSelector": {}, "policyTypes": ["Ingress"]})
TO_DB = policy("shop", "db", {"podSelector": app("db"), "ingress": [
    {"from": [{"podSelector": app("api")}], "ports": [{"port": 5432}]}]})  # fmt: skip
DNS_ANYWHERE = policy("batch", "dns", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [
    {"ports": [{"port": 53, "protocol": "UDP"}]}]})  # fmt: skip


def talk(src: str, dst: str, port: int = 5432, **more: Any) -> Row:
    return flow(src, dst, port, marks=CONVERSATION, **more)


def found(*rows: Row, inventory: Sequence[InventoryObject] = (*KNOWN, DENY, TO_DB), at: Sequence[int] = (1,),
          **config: Any) -> list[Finding]:  # fmt: skip
    node = Node()
    return run("misconfiguration", [node.second(s, flows=list(rows)) for s in at], inventory, **config)


def signs(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    return [(f.evidence[0].name, f.severity) for f in findings]


def test_a_denied_conversation() -> None:
    (told,) = found(talk("10.0.0.66", "10.0.0.12"))
    assert signs([told]) == [("not_enforced", "medium")]
    assert told.evidence[0].unit == "shop/db, shop/deny"
    assert [(v.workload, v.port, v.labels) for v in told.victims] == [
        ("StatefulSet/db", 5432, {"app": "db"}), ("Job/import", None, {"app": "job"}),
    ]  # fmt: skip
    assert "ingress isolated by shop/db, shop/deny" in told.summary


@pytest.mark.parametrize(
    "row",
    [
        talk("10.0.0.11", "10.0.0.12"),  # allowed
        flow("10.0.0.66", "10.0.0.12", 5432, marks=OPENED | ESTABLISHED),  # nothing was said
        flow("10.0.0.66", "10.0.0.12", 5432),
        talk("10.0.0.1", "10.0.0.12"),  # a node: a probe, or somebody's translated address
        talk("10.0.0.99", "10.0.0.12"),  # an inside address that the inventory does not name
        talk("10.0.0.66", "10.0.0.12", copy=True),
        talk("10.0.0.66", "10.0.0.12", 0, proto=1),  # no policy covers ICMP
    ],
)
def test_what_shows_nothing(row: Row) -> None:
    assert found(row) == []


def test_without_policies_in_the_inventory_nothing_is_said_of_them() -> None:
    assert found(talk("10.0.0.66", "10.0.0.12"), inventory=KNOWN) == []
    assert found(talk("10.0.0.66", "10.0.0.12"), inventory=()) == []


def test_a_change_needs_its_time() -> None:
    late = DENY.model_copy(update={"valid_from": BEGIN})
    rows = talk("10.0.0.66", "10.0.0.12")
    inventory = (*KNOWN, late)
    assert [f.tick - BEGIN for f in found(rows, inventory=inventory, at=(1, 60, 61, 62))] == [61]
    old = {"conn_start": (BEGIN - 100) * 10**9}  # it was there before the policy
    assert found(rows | old, inventory=inventory, at=(100,)) == []


def test_the_same_is_told_once_a_day_and_another_pair_is_judged() -> None:
    rows = [talk("10.0.0.66", "10.0.0.12")]
    assert [f.tick - BEGIN for f in found(*rows, at=(1, 2, 3700, 86_400, 90_100))] == [1, 90_100]
    assert len(found(*rows, talk("10.0.0.66", "10.0.0.11"))) == 2  # other policies are concerned


def test_readings_of_ip_blocks_on_which_enforcers_differ_are_no_violation() -> None:
    block = policy(
        "shop", "block", {"podSelector": app("db"), "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}
    )
    assert found(talk("10.0.0.66", "10.0.0.12"), inventory=(*KNOWN, DENY, block)) == []


def test_an_address_outside() -> None:
    (told,) = found(talk("198.51.100.7", "10.0.0.12"))
    assert signs([told]) == [("not_enforced", "medium")]
    ours = InventoryObject(kind="Range", uid="r", name="r", ips=("198.51.100.0/24",), role="internal")
    assert found(talk("198.51.100.7", "10.0.0.12"), inventory=(*KNOWN, DENY, ours)) == []


def test_ipv6() -> None:
    (told,) = found(talk("fd00::66", "fd00::12"))
    assert signs([told]) == [("ipv6_open", "medium")]
    six = policy("shop", "six", {"podSelector": app("db"), "ingress": [{"from": [{"ipBlock": {"cidr": "fd00::/8"}}]}]})
    # Enforcers differ, so it counts as allowed over IPv6; over IPv4 none allows it.
    (told,) = found(talk("fd00::66", "fd00::12"), inventory=(*KNOWN, DENY, TO_DB, six))
    assert signs([told]) == [("ipv6_open", "medium")]
    assert "over IPv4" in told.summary
    assert found(talk("fd00::11", "fd00::12")) == []


def test_a_namespace_without_default_deny() -> None:
    one = policy("shop", "api", {"podSelector": app("api"), "ingress": [{}]})
    (told,) = found(talk("10.0.0.66", "10.0.0.12"), inventory=(*KNOWN, one))
    assert (signs([told]), told.evidence[0].unit) == ([("no_default_deny", "low")], "namespace shop: Ingress")
    assert found(talk("10.0.0.11", "10.0.0.12"), inventory=(*KNOWN, one)) == []  # neighbours
    assert found(talk("10.0.0.66", "10.0.0.11"), inventory=(*KNOWN, one)) == []  # isolated, and let in
    assert found(talk("10.0.0.66", "10.0.0.53", 53, proto=UDP), inventory=(*KNOWN, one)) == []  # kube-system
    assert len(found(talk("198.51.100.7", "10.0.0.12"), inventory=(*KNOWN, one))) == 1


class TestHoles:
    ask = (talk("10.0.0.66", "198.51.100.53", 53, proto=UDP),)

    def found(self, *policies: InventoryObject, rows: Sequence[Row] = ask) -> list[Finding]:
        return found(*rows, inventory=(*KNOWN, DENY, *policies))

    def test_port_53_to_the_world(self) -> None:
        (told,) = self.found(DNS_ANYWHERE)
        assert (signs([told]), told.evidence[0].unit) == ([("open_hole", "low")], "batch/dns egress[0]")
        assert told.victims[0].ip == "198.51.100.53"

    def test_rules_that_are_meant(self) -> None:
        everything = policy("batch", "all", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]})
        named = policy("batch", "named", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [
            {"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}]}]})  # fmt: skip
        other = policy("batch", "other", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [
            {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}]})  # fmt: skip
        assert self.found(everything) == []
        assert self.found(DNS_ANYWHERE, everything) == []
        assert self.found(DNS_ANYWHERE, named) == []
        assert len(self.found(DNS_ANYWHERE, other)) == 1
        assert self.found() == []  # nothing isolates it

    def test_inside_and_by_resolvers(self) -> None:
        assert self.found(DNS_ANYWHERE, rows=[talk("10.0.0.66", "10.0.0.53", 53, proto=UDP)]) == []
        dns = policy("kube-system", "dns", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [
            {"ports": [{"port": 53, "protocol": "UDP"}]}]})  # fmt: skip
        assert self.found(dns, rows=[talk("10.0.0.53", "198.51.100.53", 53, proto=UDP)]) == []


class TestControlPlane:
    @pytest.mark.parametrize(
        ("port", "sign"),
        [(10250, ("kubelet_reachable", "low")), (10255, ("kubelet_reachable", "medium")),
         (2379, ("etcd_reachable", "medium"))],
    )  # fmt: skip
    def test_reached_by_a_pod(self, port: int, sign: tuple[str, str]) -> None:
        (told,) = found(talk("10.0.0.66", "192.0.2.1", port), inventory=KNOWN)
        assert signs([told]) == [sign]

    def test_who_may_and_what_is_something_else(self) -> None:
        for row in (
            talk("10.0.0.53", "192.0.2.1", 10250),  # the control plane's own
            talk("10.0.0.66", "192.0.2.1", 443),
            talk("10.0.0.66", "10.0.0.12", 2379),  # an etcd of somebody else's
            talk("192.0.2.1", "192.0.2.1", 2379),
            flow("10.0.0.66", "192.0.2.1", 10250),
        ):
            assert found(row, inventory=KNOWN) == []

    def test_etcd_as_a_pod(self) -> None:
        etcd = pod("etcd", "10.0.0.2", "", "kube-system")
        assert len(found(talk("10.0.0.66", "10.0.0.2", 2379), inventory=(*KNOWN, etcd))) == 1


class TestExposure:
    def service(self, **more: Any) -> InventoryObject:
        ports = (ServicePort(port=80, target_port=8080, node_port=30080),)
        told: dict[str, Any] = {
            "kind": "Service",
            "uid": "s",
            "namespace": "shop",
            "name": "web",
            "ips": ("10.96.0.1",),
        }
        return InventoryObject(**(told | {"service_ports": ports, "service_type": "NodePort"} | more))

    def found(self, service: InventoryObject, src: str = "198.51.100.7", dst: str = "192.0.2.1", port: int = 30080
              ) -> list[Finding]:  # fmt: skip
        return found(talk(src, dst, port), inventory=(*KNOWN, service))

    def test_a_node_port(self) -> None:
        (told,) = self.found(self.service())
        assert (signs([told]), told.evidence[0].unit) == (
            [("node_port_exposed", "low")], "Service shop/web: NodePort 30080",
        )  # fmt: skip
        assert self.found(self.service(labels={"sluicegate.io/exposed": "true"})) == []
        assert len(self.found(self.service(labels={"sluicegate.io/exposed": "false"}))) == 1
        assert self.found(self.service(), src="10.0.0.66") == []
        assert self.found(self.service(), port=30081) == []
        assert self.found(self.service(), dst="10.0.0.12") == []
        assert self.found(self.service(service_type="LoadBalancer")) == []  # balancers lead there

    def test_a_load_balancer_whose_ranges_nobody_enforces(self) -> None:
        balanced = self.service(service_type="LoadBalancer", external_ips=("203.0.113.80",),
                                source_ranges=("198.51.100.0/28",))  # fmt: skip
        assert self.found(balanced, dst="203.0.113.80", port=80) == []
        (told,) = self.found(balanced, src="198.51.100.99", dst="203.0.113.80", port=80)
        assert signs([told]) == [("load_balancer_open", "medium")]
        assert len(self.found(balanced, src="198.51.100.99")) == 1  # past it, by the node port
        assert self.found(balanced, src="198.51.100.99", dst="203.0.113.80", port=81) == []
        gone = balanced.model_copy(update={"valid_to": BEGIN})
        assert self.found(gone, src="198.51.100.99", dst="203.0.113.80", port=80) == []


def test_a_tick_of_many_new_pairs_is_judged_bit_by_bit() -> None:
    pods = [pod(f"p{n}", f"10.1.{n >> 8}.{n & 255}", f"Job/{n}", f"ns{n}") for n in range(200)]
    rows = [talk("10.0.0.66", p.ips[0], 80) for p in pods]
    counts = [len(found(*rows, inventory=(*pods, JOB, DENY), at=range(1, n + 1))) for n in (1, 2, 7)]
    assert counts == [32, 64, 200]


def test_who_stands_behind_many_others_is_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{Misconfiguration.__module__}._LOOKED_AT", 20)
    many = [talk(f"10.2.0.{n}", f"10.3.0.{n}", 80) for n in range(60)]
    rows = [*many[:50], talk("10.0.0.66", "10.0.0.12"), *many[50:]]
    assert len(found(*rows, at=range(1, 12))) == 1


def test_judged_pairs_forget_and_are_bounded() -> None:
    pairs = JudgedPairs()
    keys = np.array([5, 3, 9], np.uint64)
    assert pairs.fresh(0, 1, keys).all()
    pairs.add(0, 1, [3, 9])
    assert pairs.fresh(0, 2, keys).tolist() == [True, False, False]
    assert pairs.fresh(1, 2, keys).all()
    again = JudgedPairs()
    again.restore(pairs.snapshot())
    assert again.fresh(0, 3600, keys).tolist() == [True, False, False]
    assert again.fresh(0, 3601, keys).all()
    pairs.add(0, 3, list(range(100, 100 + (1 << 16) - 1)))
    assert pairs.fresh(0, 4, keys).all()  # began anew
