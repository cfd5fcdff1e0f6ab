"""Who answers for a Service: endpoints and proxies are silent, others are told once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from detectors.cluster_names import service_name
from schemas.endpoints import serves
from schemas.events import LinkClaim
from schemas.finding import Finding
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject, ServiceEndpoint
from tests.event_rows import BEGIN, CONVERSATION, Node, Row, arp, flow
from tests.unit.detectors.one_detector import pod, run

NAME = "web.shop.svc.cluster.local"
CLIENT = pod("client", "10.0.0.5", "Deployment/client", app="client")
WEB = pod("web", "10.0.0.10", "Deployment/web", app="web")
PROXY = pod("proxy", "10.0.0.20", "Deployment/proxy", app="proxy")
BAD = pod("job", "10.0.0.66", "Job/import", "batch", app="job")
NODE = InventoryObject(kind="Node", uid="n", name="n", ips=("10.0.0.1",))


def service(name: str, ip: str = "", **more: Any) -> InventoryObject:
    told = {"selector": {"app": name}, "ips": (ip,) if ip else ()}
    return InventoryObject(kind="Service", uid=f"s-{name}", namespace="shop", name=name, **(told | more))


def slice_of(name: str, *ips: str, **more: Any) -> InventoryObject:
    endpoints = tuple(ServiceEndpoint(address=ip) for ip in ips)
    told = {"kind": "EndpointSlice", "uid": f"e-{name}", "namespace": "shop", "service": name, "name": f"{name}-1"}
    return InventoryObject(**(told | {"endpoints": endpoints} | more))


WEB_SERVICE = service("web", "10.96.0.10", external_ips=("203.0.113.80",))
KNOWN = (CLIENT, WEB, PROXY, BAD, NODE, WEB_SERVICE, service("proxy", "10.96.0.20"))


def asked(ip: str, host: str = NAME, src: str = "10.0.0.5", **more: Any) -> Row:
    row: Row = {"src": src, "dst": ip, "src_port": 40000, "dst_port": 80, "host": host, "status": 200}
    return row | {"head_complete": True} | more


def found(*rows: Row, inventory: Sequence[InventoryObject] = KNOWN, at: Sequence[int] = (1,), **config: Any
          ) -> list[Finding]:  # fmt: skip
    node = Node()
    messages = [node.second(second, http=list(rows)) for second in at]
    return run("service_impersonation", messages, inventory, **config)


@pytest.mark.parametrize("host", [NAME, "web.shop.svc", "web.shop:80", "web", "WEB.shop.svc.example.org."])
def test_a_pod_that_is_not_behind_the_service(host: str) -> None:
    (told,) = found(asked("10.0.0.66", host))
    assert (told.severity, told.attackers[0].workload) == ("high", "Job/import")
    assert [v.ip for v in told.victims] == ["10.0.0.5", "10.96.0.10"]
    assert told.victims[1].service == "shop/web"


@pytest.mark.parametrize(
    "row",
    [
        asked("10.0.0.10"),  # a pod that it selects
        asked("10.96.0.10"),
        asked("203.0.113.80"),  # its load balancer
        asked("10.96.0.20"),  # another Service: a gateway's
        asked("10.0.0.1"),  # a node's port
        asked("10.0.0.66", "other.shop.svc.cluster.local"),  # no Service of that name
        asked("10.0.0.66", "www.example.com"),
        asked("203.0.113.9", "web.shop"),  # a public name
        asked("10.0.0.66", "10.0.0.10"),
        asked("10.0.0.66", status=404),  # a machine that says that it is the wrong one
        asked("10.0.0.66", status=0),
        asked("10.0.0.66", "web", src="10.0.0.99"),  # a search path that nobody knows
        asked("10.0.0.20"),  # a proxy: behind a Service of its own, seen early
        asked("10.0.0.99"),  # a pod that the inventory does not name yet
    ],
)
def test_what_is_no_impersonation(row: Row) -> None:
    assert found(row) == []


def test_tls_names_count_too() -> None:
    row = {"src": "10.0.0.5", "dst": "10.0.0.66", "src_port": 1, "dst_port": 443, "sni": NAME, "server_version": 771}
    silent = row | {"server_version": 0}
    mesh = row | {"sni": f"outbound_.80_._.{NAME}"}
    assert len(run("service_impersonation", [Node().second(1, tls=[row])], KNOWN)) == 1
    assert run("service_impersonation", [Node().second(1, tls=[silent, mesh])], KNOWN) == []


def test_an_address_that_stays_unknown_or_lies_outside() -> None:
    assert [f.tick - BEGIN for f in found(asked("10.0.0.99"), at=(1, 30, 61, 90))] == [61]
    (told,) = found(asked("198.51.100.9"))
    assert told.severity == "medium"


def test_who_is_told_again_and_when() -> None:
    assert [f.tick - BEGIN for f in found(asked("10.0.0.66"), at=(1, 2, 3600, 3601))] == [1, 3601]


def test_a_pod_behind_another_service_that_begins_to_answer_later() -> None:
    assert found(asked("10.0.0.20"), at=(1, 5000)) == []
    node = Node()
    quiet = [node.second(1, http=[asked("10.0.0.10")])]
    later = [node.second(at, http=[asked("10.0.0.20")]) for at in (3602, 3603)]
    (told,) = run("service_impersonation", [*quiet, *later], KNOWN)
    assert (told.severity, told.tick) == ("medium", BEGIN + 3602)


def test_slices_tell_what_selectors_do_not() -> None:
    manual = service("web", "10.96.0.10", selector={})
    rest = (CLIENT, BAD)
    assert found(asked("10.0.0.66"), inventory=(*rest, manual)) == []
    assert found(asked("10.0.0.66"), inventory=(*rest, manual, slice_of("web", "10.0.0.66"))) == []
    assert len(found(asked("10.0.0.66"), inventory=(*rest, manual, slice_of("web", "10.0.0.10")))) == 1
    named = service("web", service_type="ExternalName", selector={})
    assert found(asked("10.0.0.66"), inventory=(*rest, named, slice_of("web", "10.0.0.10"))) == []


def test_an_endpoint_that_was_taken_out_may_go_on_for_an_hour() -> None:
    before = slice_of("web", "10.0.0.66", valid_from=BEGIN - 100)
    after = slice_of("web", "10.0.0.10", valid_from=BEGIN)
    known = (*KNOWN, before, after)
    assert [f.tick - BEGIN for f in found(asked("10.0.0.66"), at=(1, 3599, 3700), inventory=known)] == [3700]


def test_an_address_that_a_pod_behind_the_service_had_before() -> None:
    old = WEB.model_copy(update={"ips": ("10.0.0.66",), "uid": "old", "valid_to": BEGIN})
    new = BAD.model_copy(update={"valid_from": BEGIN})
    table = IdentityTable([CLIENT, old, new, WEB_SERVICE])
    assert serves(table, WEB_SERVICE, "10.0.0.66", BEGIN + 10) is True
    assert serves(table, WEB_SERVICE, "10.0.0.66", BEGIN + 4000) is False
    assert serves(table, WEB_SERVICE, "10.0.0.77", BEGIN) is None


def translated(dst: str, to: str = "10.96.0.10", marks: int = CONVERSATION, **more: Any) -> list[Finding]:
    row = flow("10.0.0.5", dst, 8080, marks=marks, orig_dst=to, orig_dst_port=80, **more)
    return run("service_impersonation", [Node().second(1, flows=[row])], KNOWN)


def test_a_cluster_address_that_leads_elsewhere() -> None:
    (told,) = translated("10.0.0.66")
    assert (told.severity, told.attackers[0].port, told.victims[1].service) == ("high", 8080, "shop/web")
    assert len(translated("10.0.0.20")) == 1  # no proxy is reached that way
    assert translated("10.0.0.10") == []
    assert translated("10.0.0.66", marks=0) == []
    assert translated("10.0.0.66", copy=True) == []
    assert translated("10.0.0.66", to="203.0.113.5") == []  # not the cluster's
    assert translated("10.0.0.66", to="::") == []


def claims(*rows: Row) -> list[Finding]:
    node = Node()
    return run("service_impersonation", [node.second(n, link=[row]) for n, row in enumerate(rows, 1)], KNOWN)


def test_a_cluster_address_is_on_no_machine() -> None:
    own = arp(9, "10.0.0.66", "10.0.0.5")
    (told,) = claims(own, arp(9, "10.96.0.10", "10.0.0.5", reply=True, to=2))
    assert (told.severity, told.attackers[0].pod, told.attackers[0].mac) == ("high", "job", "02:00:00:00:00:09")
    assert [v.ip for v in told.victims] == ["10.96.0.10", "10.0.0.5"]
    assert len(claims(own, arp(9, "10.96.0.10", "10.96.0.10"))) == 1  # announced to all


def test_nodes_and_proxies_may_claim_it() -> None:
    assert claims(arp(9, "10.0.0.1", "10.0.0.5"), arp(9, "10.96.0.10", "10.0.0.5", reply=True)) == []
    assert claims(arp(9, "10.96.0.10", "10.0.0.5", reply=True)) == []  # nobody knows who that is
    proxy = arp(9, "10.96.0.10", "10.0.0.5", reply=True) | {"mac": 0xEEEEEEEEEEEE}
    assert claims(arp(9, "10.0.0.66", "10.0.0.5"), proxy) == []
    assert claims(arp(9, "10.0.0.66", "10.0.0.5"), arp(9, "10.0.0.70", "10.0.0.5", reply=True)) == []
    (told,) = claims(arp(9, "10.0.0.99", "10.0.0.5"), arp(9, "10.96.0.10", "10.0.0.5", reply=True))
    assert told.severity == "low"  # a machine that no inventory names may be a node


def test_neighbour_advertisements_claim_too() -> None:
    six = service("six", "fd00::10")
    own = {"claim": LinkClaim.NEIGHBOUR_ADVERTISEMENT, "mac": 9, "claimed_mac": 9, "target": "fd00::5"}
    pod6 = pod("job6", "fd00::66", "Job/import", "batch")
    rows = [own | {"claimed": "fd00::66"}, own | {"claimed": "fd00::10"}]
    node = Node()
    messages = [node.second(n, link=[row]) for n, row in enumerate(rows, 1)]
    (told,) = run("service_impersonation", messages, (six, pod6))
    assert told.attackers[0].pod == "job6"


@pytest.mark.parametrize(
    ("host", "meant"),
    [
        ("web", ("", "web", True)),
        ("web.shop", ("shop", "web", False)),
        ("web-0.web.shop.svc.cluster.local:8080", ("shop", "web", True)),
        ("Web.Shop.svc", ("shop", "web", True)),
        ("web.shop.example.com", None),
        ("10.0.0.1:80", None),
        ("[fd00::1]:80", None),
        ("svc", ("", "svc", True)),
        ("a..b", None),
        ("", None),
    ],
)
def test_names_of_services(host: str, meant: tuple[str, str, bool] | None) -> None:
    assert service_name(host) == meant
