from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from response.reach import pair_ports
from schemas.policy.addresses import span_of_address
from schemas.policy.cluster import ClusterView, NamedPort, Pod
from schemas.policy.evaluator import READINGS, Flow, evaluate
from schemas.policy.networkpolicy import PROTOCOLS, NetworkPolicy, read_policy

ROOT = Path(__file__).resolve().parents[3]
CASES: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("policy_cases.yaml").read_text())
ADDRESSES = {
    "web": "10.0.0.10",
    "web6": "fd00::10",
    "db": "10.0.0.20",
    "bare": "10.0.0.30",
    "api": "10.0.1.10",
    "node1": "10.9.0.1",
    "node2": "10.9.0.2",
    "out": "198.51.100.7",
    "other": "198.51.100.99",
    "out6": "2001:db8::7",
}
HTTP = (NamedPort("http", "TCP", 8080),)
NODE1, NODE2 = ("10.9.0.1",), ("10.9.0.2",)
PODS = (
    Pod("shop", "web", {"app": "web", "tier": "front"}, ("10.0.0.10", "fd00::10"), HTTP, node_ips=NODE1),
    Pod("shop", "db", {"app": "db"}, ("10.0.0.20",), (NamedPort("pg", "TCP", 5432),), node_ips=NODE1),
    Pod("shop", "bare", {}, ("10.0.0.30",), node_ips=NODE1),
    Pod("shop", "agent", {"app": "web"}, NODE1, HTTP, host_network=True, node_ips=NODE1),
    Pod("bank", "api", {"app": "api"}, ("10.0.1.10",), (NamedPort("http", "TCP", 9090),), node_ips=NODE2),
)
NAMESPACES = {"shop": {"team": "shop"}, "bank": {"team": "bank"}}


def policy(key: str, spec: dict[str, Any]) -> NetworkPolicy:
    namespace, name = key.split("/")
    return read_policy({"metadata": {"namespace": namespace, "name": name}, "spec": spec})


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_case(case: dict[str, Any]) -> None:
    policies = tuple(policy(key, spec) for key, spec in case["policies"].items())
    view = ClusterView(PODS, NAMESPACES, policies)
    source, destination, protocol, port = case.get("flow", ["api", "web", "TCP", 8080])
    flow = Flow(ADDRESSES[source], ADDRESSES[destination], protocol, port)
    readings = [reading for reading in READINGS if reading == case.get("reading", reading)]
    for reading in readings:
        assert evaluate(view, flow, reading).allowed == case["allowed"]
        if protocol in PROTOCOLS:
            spans = span_of_address(flow.source), span_of_address(flow.destination)
            assert (port in pair_ports(view, *spans, reading)[protocol]) == case["allowed"]


def test_the_documentation_shows_every_case() -> None:
    rows = [f"| {case['name']} | {'allowed' if case['allowed'] else 'blocked'} |" for case in CASES]
    shown = (ROOT / "docs" / "policy-evaluation.md").read_text().splitlines()
    listed = [line for line in shown if line.endswith(("| allowed |", "| blocked |"))]
    assert listed == rows, "docs/policy-evaluation.md: replace the table by:\n" + "\n".join(rows)


def test_case_names_are_unique_and_many() -> None:
    assert len({case["name"] for case in CASES}) == len(CASES) >= 40


def test_a_verdict_names_the_policy_that_allows_and_those_that_isolate() -> None:
    view = ClusterView(
        PODS, NAMESPACES, (policy("shop/deny", {}), policy("shop/http", {"ingress": [{"ports": [{"port": 8080}]}]}))
    )
    allowed = evaluate(view, Flow("10.0.1.10", "10.0.0.10", "TCP", 8080))
    assert allowed.text() == "egress allowed: not isolated; ingress allowed by shop/http"
    blocked = evaluate(view, Flow("10.0.1.10", "10.0.0.10", "TCP", 81))
    assert blocked.text() == "ingress isolated by shop/deny, shop/http"


def test_an_address_of_two_pods_counts_as_allowed_if_either_is() -> None:
    twin = Pod("bank", "twin", {}, ("10.0.0.10",))
    view = ClusterView((*PODS, twin), NAMESPACES, (policy("shop/deny", {}),))
    assert evaluate(view, Flow("10.0.1.10", "10.0.0.10", "TCP", 8080)).allowed


def test_an_ipv4_mapped_address_is_the_ipv4_one() -> None:
    view = ClusterView(PODS, NAMESPACES, (policy("shop/deny", {}),))
    assert not evaluate(view, Flow("::ffff:10.0.1.10", "::ffff:10.0.0.10", "TCP", 8080)).allowed
