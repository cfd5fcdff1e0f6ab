"""Actions on whole workloads and namespaces, and the lock to a day's peers: what they write, and when they refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import response.actions.allow_only_baseline
import response.actions.isolate_namespace
from response.edges import EdgeMemory
from response.plan import Attempt, Plan, PlanContext, climb
from response.prove import Proof
from response.settings import BudgetSettings, ResponseSettings
from schemas.policy.cluster import ClusterView, Forward, NamedPort, Pod, Service
from schemas.response import ResponseDecision
from schemas.word import iso_time
from tests.unit.response.cluster_cases import API, DB, DNS, NODE, NOW, OUTSIDE, VIEW, WEB, WEB_B, decision, end, policy
from tests.unit.response.test_edges import edge, memory
from tests.unit.response.test_orders import Desk

SCAN = (end(DB, 5432, "TCP"),)
HOST = Pod("shop", "agent", {"app": "agent"}, NODE, host_network=True)


def tried(asked: ResponseDecision, view: ClusterView = VIEW, edges: EdgeMemory | None = None) -> Attempt:
    attempts = climb(PlanContext(asked, view, ResponseSettings(), iso_time(NOW + 600), edges or EdgeMemory()))
    return attempts[-1]


def proven(asked: ResponseDecision, view: ClusterView = VIEW, edges: EdgeMemory | None = None) -> tuple[Plan, Proof]:
    attempt = tried(asked, view, edges)
    assert attempt.refusal is None, attempt.refusal
    assert attempt.plan is not None
    assert attempt.proof is not None
    return attempt.plan, attempt.proof


def reason(asked: ResponseDecision, view: ClusterView = VIEW, edges: EdgeMemory | None = None) -> str:
    refusal = tried(asked, view, edges).refusal
    assert refusal is not None
    return refusal.reason


def test_a_workload_is_isolated_by_what_its_replicas_share() -> None:
    plan, proof = proven(decision("isolate_workload"))
    assert plan.pods == ("shop/web-a", "shop/web-b")
    (manifest,) = plan.manifests
    assert manifest["spec"] == {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress", "Egress"]}
    assert plan.undo[0]["object"]["metadata"]["name"] == manifest["metadata"]["name"]
    assert proof.isolates


def test_all_replicas_at_once_are_beyond_the_budget_unless_it_is_raised() -> None:
    asked = decision("isolate_workload", mode="enforce")
    assert [(a.outcome, a.reason) for a in Desk().decided(asked)] == [("refused", "budget_replicas")]
    desk = Desk(ResponseSettings(budgets=BudgetSettings(replica_share=1)))
    assert [(a.outcome, a.reason) for a in desk.decided(asked)] == [("applied", "proven")]
    assert desk.looked(NOW + 601) == ["expired expired"]
    assert desk.gateway.policies == {}


def test_a_namespace_is_isolated_but_for_pods_of_the_host_network() -> None:
    plan, _ = proven(decision("isolate_namespace"), replace(VIEW, pods=(*VIEW.pods, HOST)))
    assert plan.pods == ("shop/web-a", "shop/web-b", "shop/db-0")
    assert [m["metadata"]["namespace"] for m in plan.manifests] == ["shop"]
    assert plan.manifests[0]["spec"]["podSelector"] == {}
    assert plan.target == "shop"


def test_attackers_of_several_namespaces_isolate_each() -> None:
    plan, _ = proven(decision("isolate_namespace", attackers=(end(WEB), end(API))))
    assert [m["metadata"]["namespace"] for m in plan.manifests] == ["bank", "shop"]


@pytest.mark.parametrize("name", ["isolate_workload", "isolate_namespace"])
def test_what_another_policy_allows_cannot_be_taken_back(name: Any) -> None:
    view = VIEW.with_policies(policy("shop/open", {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}))
    assert reason(decision(name), view) == "not_isolated"


def test_a_namespace_with_somebody_who_must_not_be_isolated_stays() -> None:
    exempt = replace(DB, labels={**DB.labels, "sluicegate.io/exempt": "true"})
    assert reason(decision("isolate_namespace"), replace(VIEW, pods=(WEB, exempt))) == "exempt"
    assert reason(decision("isolate_namespace", attackers=(end(DNS),))) == "protected"


def test_a_namespace_of_very_many_pods_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response.actions.isolate_namespace, "MAX_PODS", 2)
    assert reason(decision("isolate_namespace")) == "too_many_pods"


BASELINE = decision("allow_only_baseline", victims=SCAN)
USUAL = (edge("bank/Deployment/api", 80), edge("192.0.2.7", 443), edge("bank/Deployment/api", 8080, initiated=False))


def rules(plan: Plan) -> tuple[list[Any], list[Any]]:
    (manifest,) = plan.manifests
    return manifest["spec"]["ingress"], manifest["spec"]["egress"]


def selected(namespace: str, **labels: str) -> dict[str, Any]:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": labels},
    }


def test_the_baseline_keeps_usual_peers_and_dns_and_cuts_the_attack() -> None:
    plan, proof = proven(BASELINE, edges=memory(*USUAL, edge("shop/StatefulSet/db", 5432)))
    ingress, egress = rules(plan)
    kept: dict[str, Any] = {"key": "kubernetes.io/metadata.name", "operator": "In"}
    kept |= {"values": list(ResponseSettings().protected_namespaces)}
    protected = {"namespaceSelector": {"matchExpressions": [kept]}}
    assert ingress == [
        {"from": [selected("bank", app="api")], "ports": [{"protocol": "TCP", "port": 8080}]}, {"from": [protected]}
    ]  # fmt: skip
    assert egress[3] == {"to": [protected]}
    assert egress[:2] == [
        {"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"protocol": "TCP", "port": 443}]},
        {"to": [selected("bank", app="api")], "ports": [{"protocol": "TCP", "port": 80}]},
    ]
    assert egress[2]["to"] == [selected("kube-system", **{"k8s-app": "kube-dns"})]
    assert {row.status for row in proof.dns} == {"kept"}
    statuses = {row.what.split()[2]: row.status for row in proof.recent}
    assert statuses == {"bank/Deployment/api": "kept", "192.0.2.7": "kept", "shop/StatefulSet/db": "cut"}


def test_a_service_of_the_baseline_is_its_pods() -> None:
    service = Service("bank", "api", ("10.96.0.9",), {"app": "api"}, (Forward("TCP", 80, "http"),))
    named = replace(API, ports=(NamedPort("http", "TCP", 8080),))
    view = replace(VIEW, pods=(WEB, WEB_B, DB, named, DNS), services=(service,))
    plan, proof = proven(BASELINE, view, memory(edge("bank/Service/api", 80), edge("bank/Service/gone", 80)))
    assert rules(plan)[1][0] == {"to": [selected("bank", app="api")], "ports": [{"protocol": "TCP", "port": "http"}]}
    assert {row.what.split()[2]: row.status for row in proof.recent} == {
        "bank/Service/api": "kept", "bank/Service/gone": "gone",
    }  # fmt: skip


def test_a_workload_of_which_nothing_but_the_attack_is_known_is_refused() -> None:
    assert reason(BASELINE) == "no_baseline"
    assert reason(BASELINE, edges=memory(edge("shop/StatefulSet/db", 5432), edge("10.0.0.20", 5432))) == "no_baseline"
    by_name = BASELINE.model_copy(update={"victims": (end(DB, 5432, "TCP").model_copy(update={"service": "shop/db"}),)})
    assert reason(by_name, edges=memory(edge("shop/Service/db", 5432))) == "no_baseline"


def test_a_baseline_never_opens_what_was_closed() -> None:
    view = VIEW.with_policies(
        policy("shop/closed", {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]})
    )
    assert reason(BASELINE, view, memory(*USUAL)) == "widens"


def test_peers_that_nobody_can_name_are_left_out_and_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = memory(*USUAL, edge("Node/n1", 10250), edge("shop/Job/done", 1), edge("192.0.2.8", 0, protocol="ICMP"))
    plan, _ = proven(BASELINE, edges=edges)
    assert len(rules(plan)[1]) == 4
    monkeypatch.setattr(response.actions.allow_only_baseline, "MAX_RULES", 1)
    assert reason(BASELINE, edges=edges) == "too_many_peers"


def test_an_attacker_outside_has_no_baseline() -> None:
    assert reason(decision("allow_only_baseline", attackers=(OUTSIDE,), victims=SCAN)) == "unknown_identity"


INJECTED = {"security.istio.io/tlsMode": "istio"}
MESH = replace(
    VIEW,
    pods=(WEB, WEB_B, replace(DB, labels={**DB.labels, **INJECTED}), replace(API, labels={**API.labels, **INJECTED})),
    served={"networkpolicy": "networking.k8s.io/v1", "istio": "security.istio.io/v1"},
)
PLAIN = decision("demand_mtls", victims=SCAN)
ISTIO = ResponseSettings.model_validate({"dialects": {"istio": "enforce"}})


def in_mesh(asked: ResponseDecision, view: ClusterView = MESH) -> tuple[Attempt, ...]:
    return climb(PlanContext(asked, view, ISTIO, iso_time(NOW + 600)))


def test_mtls_closes_the_workload_to_whoever_is_outside_the_mesh() -> None:
    *others, attempt = in_mesh(PLAIN)
    assert {item.refusal.reason for item in others if item.refusal} == {"no_mesh"}
    assert attempt.refusal is None
    assert attempt.plan is not None
    (manifest,) = attempt.plan.manifests
    assert (manifest["kind"], manifest["spec"]["mtls"]) == ("PeerAuthentication", {"mode": "STRICT"})
    assert attempt.plan.undo[0]["object"]["kind"] == "PeerAuthentication"
    assert attempt.plan.enforced


def test_mtls_without_istio_or_outside_the_mesh_is_refused() -> None:
    assert reason(PLAIN) == "no_mesh"
    last = in_mesh(PLAIN, replace(MESH, pods=(WEB, DB)))[-1]
    assert last.refusal is not None
    assert last.refusal.reason == "not_in_mesh"


def test_mtls_is_no_answer_to_an_attacker_in_the_mesh() -> None:
    last = in_mesh(PLAIN.model_copy(update={"attackers": (end(API),)}))[-1]
    assert last.refusal is not None
    assert last.refusal.reason == "not_blocked"


def test_mtls_that_would_cut_a_protected_client_is_refused() -> None:
    last = in_mesh(PLAIN, replace(MESH, pods=(*MESH.pods, DNS)))[-1]
    assert last.refusal is not None
    assert last.refusal.reason == "protected_cut"
