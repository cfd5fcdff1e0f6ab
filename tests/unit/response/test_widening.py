"""Named cases of a policy change that opens something, each with its counterexample, and of changes that do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from response.reach import changed_subjects, cut_peers, find_widening
from schemas.policy.cluster import ClusterView, NamedPort, Pod
from schemas.policy.networkpolicy import NetworkPolicy, read_policy

WEB = Pod("shop", "web", {"app": "web"}, ("10.0.0.10", "fd00::10"), (NamedPort("http", "TCP", 8080),))
DB = Pod("shop", "db", {"app": "db"}, ("10.0.0.20",))
API = Pod("bank", "api", {"app": "api"}, ("10.0.1.10",))
BASE = ClusterView((WEB, DB, API), {"shop": {}, "bank": {}})


def ingress(*rules: dict[str, Any], select: str = "web", name: str = "p") -> NetworkPolicy:
    spec = {"podSelector": {"matchLabels": {"app": select}}, "policyTypes": ["Ingress"], "ingress": list(rules)}
    return read_policy({"metadata": {"namespace": "shop", "name": name}, "spec": spec})


def block(cidr: str, *holes: str) -> dict[str, Any]:
    return {"from": [{"ipBlock": {"cidr": cidr, "except": list(holes)}}]}


def ports(low: int, high: int) -> dict[str, Any]:
    return {"ports": [{"port": low, "endPort": high}]}


PODS = {"from": [{"podSelector": {"matchLabels": {"app": "db"}}}]}
BANK = {"from": [{"namespaceSelector": {"matchLabels": {"team": "bank"}}}]}


@pytest.mark.parametrize(
    ("had", "has", "peer", "what"),
    [
        (block("0.0.0.0/0", "192.0.2.0/24"), block("0.0.0.0/0"), "192.0.2.0", "TCP/1"),
        (block("0.0.0.0/0", "192.0.2.0/24"), block("0.0.0.0/0", "192.0.2.0/25"), "192.0.2.128", "TCP/1"),
        (block("192.0.2.0/25"), block("192.0.2.0/24"), "192.0.2.128", "TCP/1"),
        (block("::/0", "2001:db8::/32"), block("::/0", "2001:db8::/33"), "2001:db8:8000::", "TCP/1"),
        (ports(80, 90), ports(80, 91), "0.0.0.0", "TCP/91"),
        (ports(80, 90), ports(79, 90), "0.0.0.0", "TCP/79"),
        (ports(80, 90), {"ports": [{"port": 80, "protocol": "UDP"}]}, "0.0.0.0", "UDP/80"),
        ({"ports": [{}]}, {}, "0.0.0.0", "UDP/1"),
        (ports(1, 2), {"ports": [{"port": "http"}]}, "0.0.0.0", "TCP/8080"),
        (block("0.0.0.0/0", "10.0.0.20/32"), PODS, "shop/db (10.0.0.20)", "TCP/1"),
    ],
)
def test_what_is_opened_is_found_with_an_example(had: Any, has: Any, peer: str, what: str) -> None:
    found = find_widening(BASE.with_policies(ingress(had)), BASE.with_policies(ingress(has)))
    assert found is not None
    assert found.text() == f"shop/web would newly be allowed {what} from {peer}"


@pytest.mark.parametrize(
    ("had", "has"),
    [
        (block("0.0.0.0/0"), block("0.0.0.0/0", "192.0.2.0/24")),
        (block("192.0.2.0/24"), block("192.0.2.0/25")),
        ({}, PODS),
        (ports(80, 90), ports(80, 90)),
        ({"ports": [{"port": 8080}]}, {"ports": [{"port": "http"}]}),
        (block("10.0.0.0/24"), PODS),
    ],
)
def test_what_only_narrows_is_no_widening(had: Any, has: Any) -> None:
    assert find_widening(BASE.with_policies(ingress(had)), BASE.with_policies(ingress(has))) is None


def test_whether_selectors_add_to_a_block_depends_on_the_reading() -> None:
    before = BASE.with_policies(ingress(block("0.0.0.0/0")))
    after = BASE.with_policies(ingress(block("0.0.0.0/0"), PODS))
    assert find_widening(before, after, "every") is None
    found = find_widening(before, after, "outside")
    assert found is not None
    assert found.peer == "shop/db (10.0.0.20)"


def test_halves_of_a_block_are_the_block() -> None:
    before = BASE.with_policies(ingress(block("192.0.2.0/24")))
    after = BASE.with_policies(ingress(block("192.0.2.0/25"), block("192.0.2.128/25")))
    assert find_widening(before, after) is None
    assert find_widening(after, before) is None


def test_removing_the_last_isolating_policy_opens_everything() -> None:
    found = find_widening(BASE.with_policies(ingress()), BASE)
    assert found is not None
    assert (found.subject, found.direction, found.peer) == ("shop/web", "Ingress", "0.0.0.0")


def test_a_label_on_one_pod_can_open_another() -> None:
    view = BASE.with_policies(ingress({"from": [{"podSelector": {"matchLabels": {"trusted": "yes"}}}]}))
    after = view.with_pod_labels("shop/db", {"trusted": "yes"})
    assert changed_subjects(view, after) == ("shop/db", "shop/web")
    found = find_widening(view, after)
    assert found is not None
    assert found.text() == "shop/web would newly be allowed TCP/1 from shop/db (10.0.0.20)"


def test_a_label_that_no_policy_reads_concerns_that_pod_only() -> None:
    view = BASE.with_policies(ingress(PODS))
    assert changed_subjects(view, view.with_pod_labels("shop/db", {"sluicegate.io/quarantine": "x"})) == ("shop/db",)


def test_a_label_that_takes_a_pod_out_of_its_isolation_opens_it() -> None:
    view = BASE.with_policies(ingress())
    found = find_widening(view, view.with_pod_labels("shop/web", {"app": "free"}))
    assert found is not None
    assert found.subject == "shop/web"


def test_a_label_on_a_namespace_can_open_a_pod() -> None:
    view = BASE.with_policies(ingress(BANK))
    found = find_widening(view, replace(view, namespaces={"shop": {}, "bank": {"team": "bank"}}))
    assert found is not None
    assert found.peer == "bank/api (10.0.1.10)"


def test_a_named_port_that_moves_opens_the_new_number() -> None:
    view = BASE.with_policies(ingress({"ports": [{"port": "http"}]}))
    moved = replace(WEB, ports=(NamedPort("http", "TCP", 22),))
    found = find_widening(view, replace(view, pods=(moved, DB, API)))
    assert found is not None
    assert found.port == 22


def test_peers_that_lose_a_single_port_are_cut() -> None:
    before = BASE.with_policies(ingress(ports(80, 90)))
    after = BASE.with_policies(
        ingress({**ports(80, 90), **PODS}, {**ports(80, 89), "from": [{"namespaceSelector": {}}]})
    )
    assert cut_peers(before, after, "shop/web", "Ingress", "every") == ("bank/api",)
