"""Named cases of each dialect, what is refused as unevaluable, and what a view makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from response.reach import pair_ports
from schemas.policy.addresses import span_of_address
from schemas.policy.calico_selector import SelectorError, selector
from schemas.policy.cluster import ClusterView, Pod, Unread
from schemas.policy.dialects import KINDS, doubts, read_object, read_or_note, served_kinds
from schemas.policy.evaluator import READINGS, Flow, evaluate
from schemas.policy.networkpolicy import PROTOCOLS, PolicyError
from tests.unit.response.test_evaluator import ADDRESSES, NAMESPACES, PODS, policy

ROOT = Path(__file__).resolve().parents[3]
CASES: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("dialect_cases.yaml").read_text())
VERSIONS = {item.kind: f"{item.group}/{item.versions[0]}" for item in reversed(KINDS) if item.group[:4] != "crd."}


def document(item: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": VERSIONS[item["kind"]], **item}


def view_of(case: dict[str, Any]) -> ClusterView:
    pods: tuple[Pod, ...] = PODS
    if case["dialect"] == "istio":
        pods = tuple(
            replace(pod, labels={**pod.labels, "security.istio.io/tlsMode": "istio"}, service_account="payer")
            for pod in pods
        )
    return ClusterView(
        pods,
        NAMESPACES,
        tuple(policy(key, spec) for key, spec in case.get("policies", {}).items()),
        objects=tuple(read_object(document(item)) for item in case["objects"]),
        in_force=frozenset(("networkpolicy", case["dialect"])),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['dialect']}: {case['name']}")
def test_case(case: dict[str, Any]) -> None:
    view = view_of(case)
    source, destination, protocol, port = case.get("flow", ["api", "web", "TCP", 8080])
    flow = Flow(ADDRESSES[source], ADDRESSES[destination], protocol, port)
    for reading in READINGS:
        assert evaluate(view, flow, reading).allowed == case["allowed"]
        if protocol in PROTOCOLS:
            spans = span_of_address(flow.source), span_of_address(flow.destination)
            assert (port in pair_ports(view, *spans, reading)[protocol]) == case["allowed"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['dialect']}: {case['name']}")
def test_what_is_not_in_force_has_no_say(case: dict[str, Any]) -> None:
    view = replace(view_of(case), policies=()).enforcing(frozenset(("networkpolicy",)))
    source, destination, protocol, port = case.get("flow", ["api", "web", "TCP", 8080])
    assert evaluate(view, Flow(ADDRESSES[source], ADDRESSES[destination], protocol, port)).allowed


def test_the_documentation_shows_every_case() -> None:
    rows = [f"| {c['dialect']} | {c['name']} | {'allowed' if c['allowed'] else 'blocked'} |" for c in CASES]
    shown = (ROOT / "docs" / "dialects.md").read_text().splitlines()
    listed = [line for line in shown if line.endswith(("| allowed |", "| blocked |"))]
    assert listed == rows, "docs/dialects.md: replace the table by:\n" + "\n".join(rows)


def _cilium(**spec: Any) -> dict[str, Any]:
    return {
        "kind": "CiliumNetworkPolicy",
        "metadata": {"namespace": "shop", "name": "p"},
        "spec": {"endpointSelector": {}, **spec},
    }


def _calico(**spec: Any) -> dict[str, Any]:
    return {"kind": "GlobalNetworkPolicy", "metadata": {"name": "p"}, "spec": {"selector": "all()", **spec}}


def _admin(**spec: Any) -> dict[str, Any]:
    body = {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, **spec}
    return {"kind": "ClusterNetworkPolicy", "metadata": {"name": "p"}, "spec": body}


def _istio(*rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    body = {"action": "DENY", "rules": list(rules), **spec}
    return {"kind": "AuthorizationPolicy", "metadata": {"namespace": "shop", "name": "p"}, "spec": body}


@pytest.mark.parametrize(
    ("item", "place"),
    [
        (_cilium(egress=[{"toFQDNs": [{"matchName": "example.org"}]}]), "toFQDNs"),
        (_cilium(egress=[{"toServices": [{}]}]), "toServices"),
        (_cilium(ingress=[{"fromRequires": [{}]}]), "fromRequires"),
        (_cilium(ingress=[{"fromNodes": [{}]}]), "fromNodes"),
        (_cilium(ingress=[{"fromEntities": ["kube-apiserver"]}]), "fromEntities"),
        (_cilium(ingress=[{"fromCIDRSet": [{"cidrGroupRef": "g"}]}]), "fromCIDRSet"),
        (_cilium(ingress=[{"fromEndpoints": [{"matchLabels": {"reserved:host": ""}}]}]), "fromEndpoints"),
        (_cilium(ingress=[{"toPorts": [{"ports": [{"port": "80"}], "rules": {"http": [{}]}}]}]), "rules"),
        (_cilium(ingress=[{"toPorts": [{"ports": [{"port": "70000"}]}]}]), "ports.0"),
        (_cilium(ingress=[{"authentication": {"mode": "required"}}]), "authentication"),
        (_cilium(somethingNew=1), "somethingNew"),
        (_calico(ingress=[{"action": "Allow", "source": {"serviceAccounts": {"names": ["a"]}}}]), "serviceAccounts"),
        (_calico(ingress=[{"action": "Allow", "source": {"ports": [80]}}]), "source.ports"),
        (_calico(egress=[{"action": "Allow", "source": {"selector": "all()"}}]), "source.selector"),
        (_calico(ingress=[{"action": "Allow", "http": {"methods": ["GET"]}}]), "http"),
        (_calico(ingress=[{"action": "Allow", "destination": {"services": {"name": "a"}}}]), "services"),
        (_calico(ingress=[{"action": "Allow", "destination": {"ports": ["9:8"]}}]), "ports"),
        (_calico(selector="has(pcsa.role)"), "selector"),
        (_calico(selector="role = 'x'"), "selector"),
        (_calico(preDNAT=True), "preDNAT"),
        (_calico(serviceAccountSelector="all()"), "serviceAccountSelector"),
        (_admin(egress=[{"action": "Deny", "to": [{"domainNames": ["example.org"]}]}]), "egress.0.to.0"),
        (_admin(egress=[{"action": "Deny", "to": [{"nodes": {}}]}]), "egress.0.to.0"),
        (_admin(ingress=[{"action": "Deny", "from": [{"networks": ["192.0.2.0/24"]}]}]), "ingress.0.from.0"),
        (_admin(ingress=[{"action": "Deny", "from": []}]), "ingress.0.from"),
        (_admin(priority=1001), "priority"),
        (_istio({"when": [{"key": "request.headers[x]", "values": ["y"]}]}), "when"),
        (_istio({"to": [{"operation": {"paths": ["/"]}}]}), "paths"),
        (_istio({"from": [{"source": {"remoteIpBlocks": ["192.0.2.1"]}}]}), "remoteIpBlocks"),
        (_istio({"to": [{"operation": {"ports": ["http"]}}]}), "ports"),
        (_istio(targetRefs=[{"kind": "Gateway", "name": "g"}]), "targetRefs"),
        (_istio(action="CUSTOM", provider={"name": "x"}), "spec"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_by_name_and_place(item: dict[str, Any], place: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read_object(document(item))
    assert place in str(caught.value)
    assert str(caught.value).split(": ")[0].endswith("/p")
    assert "\n" not in str(caught.value)


def test_what_could_not_be_read_is_in_doubt_where_it_applies_and_in_force() -> None:
    cilium = next(item for item in KINDS if item.kind == "CiliumNetworkPolicy")
    noted = read_or_note(document(_cilium(egress=[{"toFQDNs": [{"matchName": "x.y"}]}])), cilium)
    assert isinstance(noted, Unread)
    view = ClusterView(PODS, NAMESPACES, unread=(noted,), in_force=frozenset(("cilium", "networkpolicy")))
    web, api = view.pod("shop/web"), view.pod("bank/api")
    assert web is not None
    assert api is not None
    assert doubts(view, web) == ("CiliumNetworkPolicy shop/p: spec.egress.0.toFQDNs: this field is not evaluated",)
    assert doubts(view, api) == ()
    assert doubts(view.enforcing(frozenset(("networkpolicy",))), web) == ()


def test_a_tie_of_priorities_with_different_words_is_in_doubt() -> None:
    rules: list[dict[str, Any]] = [{"action": word, "from": [{"namespaces": {}}]} for word in ("Accept", "Deny")]
    tied = [document({**_admin(ingress=[rule]), "metadata": {"name": f"p{n}"}}) for n, rule in enumerate(rules)]
    view = ClusterView(
        PODS, NAMESPACES, objects=tuple(map(read_object, tied)), in_force=frozenset(("clusternetworkpolicy",))
    )
    (line,) = doubts(view, PODS[0])
    assert line.startswith("ClusterNetworkPolicy p0, ClusterNetworkPolicy p1: equal priority 1")
    alike = replace(view, objects=view.objects[:1] * 2)
    assert doubts(alike, PODS[0]) == ()


def test_a_policy_of_a_tier_that_does_not_exist_is_in_doubt() -> None:
    made = read_object(document(_calico(tier="gone", ingress=[{"action": "Deny"}])))
    view = ClusterView(PODS, NAMESPACES, objects=(made,), in_force=frozenset(("calico",)))
    assert doubts(view, PODS[0]) == ("GlobalNetworkPolicy p: its tier 'gone' does not exist",)


@pytest.mark.parametrize(
    "text",
    [
        *("a ==", "a == b", "== 'x'", "has a", "has('a')", "a in 'x'", "(a == 'x'", "a == 'x' b", "nope()", "a @ 'x'"),
        *("!" * 60 + "has(a)", "a" * 5000),
    ],
)
def test_a_text_that_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(SelectorError):
        selector(text)


def test_and_binds_closer_than_or() -> None:
    asked = selector("a == 'x' || b == 'y' && c == 'z'")
    assert asked.matches({"a": "x"})
    assert not asked.matches({"b": "y"})
    assert asked.keys == {"a", "b", "c"}


def test_calico_is_read_once_and_from_its_own_api_where_that_is_served() -> None:
    both = {
        "projectcalico.org/v3": frozenset(("networkpolicies", "tiers")),
        "crd.projectcalico.org/v1": frozenset(("networkpolicies", "tiers", "globalnetworksets")),
    }
    assert [(item.group, item.kind) for item, _ in served_kinds(both)] == [
        ("projectcalico.org", "NetworkPolicy"),
        ("projectcalico.org", "Tier"),
        ("crd.projectcalico.org", "GlobalNetworkSet"),
    ]


def test_the_version_that_is_served_is_read() -> None:
    served = {"policy.networking.k8s.io/v1beta1": frozenset(("clusternetworkpolicies",))}
    assert [version for _, version in served_kinds(served)] == ["v1beta1"]
