"""Detectors that ask the inventory: strangers and shut doors, lies about cluster names, plain traffic in a mesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from schemas.events import CAPTURE_CAPABILITIES, Capability, FlowMark, Verdict
from schemas.finding import Finding
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from tests.event_rows import BEGIN, CONVERSATION, Node, Row, flow, query
from tests.unit.detectors.one_detector import pod, run

POD = "10.0.0.5"
EXCHANGED = int(FlowMark.EXCHANGED)


def denied(target: str, port: int = 443, count: int = 1) -> list[Row]:
    return [flow(POD, target, port, verdict=Verdict.DENIED, src_port=40000 + n) for n in range(count)]


DB = pod("db", "10.0.0.12", "StatefulSet/db", sluicegate_io__sensitive="true")
API = pod("api", POD, "Deployment/api")
STRANGER = pod("job", "10.0.0.66", "Job/import", "batch")


def visit(src: str, marks: int = CONVERSATION) -> Row:
    return flow(src, "10.0.0.12", 5432, marks=marks)


class TestUnauthorisedAccess:
    def found(self, *rows: Sequence[Row], inventory: Sequence[InventoryObject] = (DB, API, STRANGER),
              at: Sequence[int] = (), **config: Any) -> list[Finding]:  # fmt: skip
        node = Node(capabilities=int(CAPTURE_CAPABILITIES | Capability.VERDICT))
        seconds = at or range(1, len(rows) + 1)
        messages = [node.second(s, flows=r) for s, r in zip(seconds, rows, strict=True)]
        return run("unauthorised_access", messages, inventory, **config)

    def test_a_client_that_was_cut_off_and_retries_is_low(self) -> None:
        assert self.found(denied("10.0.0.8", count=10)) == []
        (found,) = self.found(denied("10.0.0.8", count=11))
        assert (found.severity, found.evidence[0].value, found.evidence[1].value) == ("low", 11, 1)

    def test_who_tries_many_doors_is_medium(self) -> None:
        rows = [row for host in range(4) for row in denied(f"10.0.0.{20 + host}", count=4)]
        assert {f.severity for f in self.found(rows)} == {"low", "medium"}
        assert self.found(rows)[-1].severity == "medium"

    def test_denials_long_ago_do_not_count(self) -> None:
        assert self.found(denied("10.0.0.8", count=10), denied("10.0.0.8", count=10), at=(1, 400)) == []

    def test_a_stranger_at_a_sensitive_workload(self) -> None:
        (found,) = self.found([visit("10.0.0.66"), visit("10.0.0.66")])
        assert (found.severity, found.attackers[0].workload) == ("medium", "Job/import")
        assert found.victims[0].workload == "StatefulSet/db"
        (found,) = self.found([visit("198.51.100.7")])
        assert "nobody knows" in found.summary

    def test_who_belongs_there_and_who_only_knocked(self) -> None:
        assert self.found([visit(POD)]) == []
        assert self.found([visit("10.0.0.66", marks=1)]) == []
        assert self.found([flow("10.0.0.66", "10.0.0.8", 5432, marks=CONVERSATION)]) == []
        node = InventoryObject(kind="Node", uid="n", name="n", ips=("10.0.0.1",))
        assert self.found([visit("10.0.0.1")], inventory=(DB, node)) == []

    def test_a_label_that_says_false_is_none(self) -> None:
        plain = pod("db", "10.0.0.12", "StatefulSet/db", sluicegate_io__sensitive="false")
        assert self.found([visit("10.0.0.66")], inventory=(plain, STRANGER)) == []

    def test_the_label_is_a_setting(self) -> None:
        mine = pod("db", "10.0.0.12", "StatefulSet/db", tier="pii")
        assert self.found([visit("10.0.0.66")], inventory=(mine, STRANGER), label="tier") != []

    def test_a_neighbour_that_never_used_it_is_a_stranger_once_users_are_learned(self) -> None:
        new = pod("new", "10.0.0.7", "Deployment/new")
        rows = ([visit(POD)], [visit(POD)], [visit("10.0.0.7")], [visit("10.0.0.7")])
        found = self.found(*rows, inventory=(DB, API, new), at=(1, 90_000, 90_001, 90_002))
        assert [f.attackers[0].workload for f in found] == ["Deployment/new"]
        early = self.found(*rows, inventory=(DB, API, new), at=(1, 2, 3, 90_002))
        assert early == []

    def test_a_pod_that_comes_later_is_found_by_its_label(self) -> None:
        table = IdentityTable([STRANGER])
        assert table.labelled("sluicegate.io/sensitive") == set()
        table.add(DB)
        assert len(table.labelled("sluicegate.io/sensitive")) == 1


RESOLVER = pod("dns", "10.0.0.53", "Deployment/dns", "kube-system", k8s_app="kube-dns")
WEB = pod("web", "10.0.0.10", "Deployment/web", app="web")
SERVICE = InventoryObject(
    kind="Service", uid="s", namespace="shop", name="web", ips=("10.96.0.10",), selector={"app": "web"}
)
HEADLESS = SERVICE.model_copy(update={"uid": "h", "name": "peers", "ips": ()})
MANUAL = SERVICE.model_copy(update={"uid": "m", "name": "legacy", "selector": {}})


def answer(name: str, ip: str, server: str = "10.0.0.53", **more: Any) -> Row:
    return query(POD, name, server=server, record_type=28 if ":" in ip else 1, record_data=ip, **more)


class TestDnsHijack:
    def found(self, *rows: Row, **config: Any) -> list[Finding]:
        known = (RESOLVER.model_copy(update={"labels": {"k8s-app": "kube-dns"}}), WEB, SERVICE, HEADLESS, MANUAL, API)
        return run("dns_hijack", [Node().second(1, dns=list(rows))], known, **config)

    @pytest.mark.parametrize("ip", ["10.0.0.66", "203.0.113.7", POD, "fd00::66"])
    def test_an_answer_that_is_not_the_clusters(self, ip: str) -> None:
        (found,) = self.found(answer("web.shop.svc.cluster.local", ip))
        assert (found.severity, found.attackers[0].ip, found.victims[0].ip) == ("high", ip, POD)

    @pytest.mark.parametrize(
        ("name", "ip"),
        [
            ("web.shop.svc.cluster.local", "10.96.0.10"),  # the Service's own
            ("web.shop.svc.cluster.local", "10.0.0.10"),  # its pod, as some resolvers answer
            ("peers.shop.svc.cluster.local", "10.0.0.10"),  # headless
            ("peers.shop.svc.cluster.local", "10.0.0.99"),  # headless, and a pod that is not known yet
            ("legacy.shop.svc.cluster.local", "203.0.113.7"),  # endpoints written by hand
            ("web.other.svc.cluster.local", "10.0.0.66"),  # a Service that the inventory does not know
            ("web-0.peers.shop.svc.cluster.local", "10.0.0.66"),
            ("web.shop.svc.example.com", "203.0.113.7"),
            ("web.shop.svc.cluster.local", "no address"),
        ],
    )
    def test_answers_that_may_be(self, name: str, ip: str) -> None:
        assert self.found(answer(name, ip)) == []

    def test_an_external_name_leads_outside(self) -> None:
        name = "web.shop.svc.cluster.local"
        alias = query(POD, name, record_type=5, record_data="shop.example.com")
        assert self.found(alias, answer(name, "203.0.113.7", query_bytes=0, answer_bytes=0)) == []

    def test_names_that_must_not_exist(self) -> None:
        names = [f"{n}.example.com.shop.svc.cluster.local" for n in "abcd"]
        assert self.found(*(answer(n, "203.0.113.7") for n in names[:3])) == []
        (found,) = self.found(*(answer(n, "203.0.113.7") for n in names))
        assert (found.severity, found.evidence[0].value) == ("medium", 4)
        assert self.found(*(answer(n, "10.1.1.1") for n in names)) == []
        assert self.found(*(answer(n, "203.0.113.7", rcode=3) for n in names)) == []
        assert len(self.found(*(answer(f"{n}.invalid", "203.0.113.7") for n in "abcd"))) == 1

    def asked(self, *servers: str, client: str = POD) -> list[Finding]:
        """Findings for a question each second to these servers."""
        dns = RESOLVER.model_copy(update={"labels": {"k8s-app": "kube-dns"}})
        node = Node()
        rows = [query(client, f"n{i}.example.com", server=s) for i, s in enumerate(servers)]
        messages = [node.second(at, dns=[row]) for at, row in enumerate(rows, start=1)]
        return run("dns_hijack", messages, (dns, API, STRANGER))

    def test_a_client_that_changes_its_resolver(self) -> None:
        dns, bad = ["10.0.0.53"], ["10.0.0.66"]
        assert self.asked(*dns * 5, *bad * 10) == []
        found = self.asked(*dns * 5, *bad * 11)
        assert [(f.severity, f.attackers[0].ip) for f in found] == [("medium", "10.0.0.66")]

    def test_clients_that_do_not_change_it(self) -> None:
        dns, far = ["10.0.0.53"], ["198.51.100.53"]
        assert self.asked(*dns * 5, *(far * 8 + dns) * 4) == []  # asks both, as certificate managers do
        assert self.asked(*far * 40) == []  # was always set up so
        assert self.asked(*dns * 5, *["169.254.20.10"] * 40) == []  # a cache on the node
        assert self.asked(*dns * 5, *far * 40, client="10.0.0.53") == []  # the resolver itself
        assert self.asked(*dns * 5, *far * 40, client="10.0.0.77") == []  # no pod


class TestMeshBypass:
    def found(self, *rows: Row, ports: str = "8443_9090", at: Sequence[int] = (1,)) -> list[Finding]:
        server = API.model_copy(update={"ips": ("10.0.0.11",), "labels": {"sluicegate.io/mtls-ports": ports}})
        kubelet = InventoryObject(kind="Node", uid="n", name="n", ips=("10.0.0.1",))
        node = Node()
        return run("mesh_bypass", [node.second(s, flows=list(rows)) for s in at], (server, kubelet, STRANGER))

    def spoke(self, port: int, app: str = "http", src: str = "10.0.0.66", **more: Any) -> Row:
        return flow(src, "10.0.0.11", port, app=app, **{"marks": EXCHANGED, **more})

    @pytest.mark.parametrize(("port", "app"), [(8443, "http"), (9090, ""), (8443, "ssh")])
    def test_plain_traffic_to_a_protected_port(self, port: int, app: str) -> None:
        (found,) = self.found(self.spoke(port, app))
        assert (found.attackers[0].workload, found.victims[0].port) == ("Job/import", port)

    def test_the_label_may_name_all_ports(self) -> None:
        assert self.found(self.spoke(81)) == []
        assert len(self.found(self.spoke(81), ports="all")) == 1
        assert self.found(self.spoke(844), ports="8443.9090") == []

    def test_what_is_no_bypass(self) -> None:
        assert self.found(self.spoke(8443, "tls")) == []
        assert self.found(self.spoke(8443, marks=CONVERSATION & ~EXCHANGED)) == []
        assert self.found(self.spoke(8443, src="10.0.0.1")) == []  # a kubelet's probe
        assert self.found(self.spoke(8443, copy=True)) == []
        assert self.found(self.spoke(8443, proto=17)) == []
        assert self.found(flow("10.0.0.66", "10.0.0.12", 8443, marks=EXCHANGED, app="http")) == []

    def test_one_bypass_is_told_once_an_hour(self) -> None:
        found = self.found(self.spoke(8443), at=(1, 2, 3000, 3602))
        assert [f.tick - BEGIN for f in found] == [1, 3602]
