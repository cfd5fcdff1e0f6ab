"""Containment on a real API server: applied, expired, reverted, refused."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from response.gateway import ClusterError
from response.kube import KubeGateway
from response.kube_kinds import RawEvent, RawNetworkPolicy
from response.plan import load_actions
from response.responder import Responder
from response.settings import ResponseSettings
from schemas.finding import Endpoint
from schemas.response import ActionName, Mode, ResponseDecision
from tests.e2e.conftest import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

NOW = 1_800_000_000
ATTACKER = "198.18.7.10"
OUTSIDE = "203.0.113.9"
READ_RULES = (
    {"apiGroups": [""], "resources": ["pods", "namespaces", "services", "configmaps"], "verbs": ["get", "list"]},
    {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["get", "list"]},
)


def decision(cluster: Cluster, mode: Mode, *actions: ActionName, victim: str = OUTSIDE) -> ResponseDecision:
    attacker = Endpoint(ip=ATTACKER, pod="web-1", namespace=cluster.namespace, identity="known")
    return ResponseDecision(
        id=f"e2e{cluster.namespace[-8:]}",
        alert_id="alert-1",
        alert_revision=1,
        cluster="test",
        detector="port_scan",
        kind="port_scan_vertical",
        severity="high",
        confidence=0.9,
        category="intrusion",
        mode=mode,
        actions=actions,
        attackers=(attacker,),
        victims=(Endpoint(ip=victim, port=443, protocol="TCP"),),
        spoofable=False,
        decided_tick=NOW,
        deadline_s=60,
        ttl_s=600,
        reason="test",
    )


def responder(gateway: KubeGateway) -> Responder:
    return Responder(gateway, ResponseSettings(), "test")


@pytest.fixture
def lab(cluster: Cluster) -> Cluster:
    cluster.pod("web-1", ATTACKER, {"app": "web"})
    cluster.pod("db-1", "198.18.7.20", {"app": "db"})
    return cluster


def test_dry_run_leaves_nothing(lab: Cluster) -> None:
    pod = lab.get_pod("web-1")
    (action,) = responder(lab.gateway()).respond(decision(lab, "dry-run", "block_egress_destination"), NOW)
    assert (action.outcome, action.proof is not None and action.proof["holds"]) == ("proposed", True)
    assert lab.policies() == {}
    assert lab.get_pod("web-1") == pod


def test_enforce_applies_what_was_proven_with_label_and_expiry(lab: Cluster) -> None:
    (action,) = responder(lab.gateway()).respond(decision(lab, "enforce", "block_egress_destination"), NOW)
    assert action.outcome == "applied", action.message
    ((name, applied),) = lab.policies().items()
    assert name == f"sluicegate-e2e{lab.namespace[-8:]}"
    assert applied["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "sluicegate"
    assert applied["metadata"]["annotations"]["sluicegate.io/expires-at"] == action.expires_at
    assert action.expires_at == datetime.datetime.fromtimestamp(NOW + 600, datetime.UTC).isoformat(
        timespec="milliseconds"
    ).replace("+00:00", "Z")
    assert applied["spec"] == action.manifests[0]["spec"], "the API server changed what was proven"
    assert {entry["manager"] for entry in applied["metadata"]["managedFields"]} == {"sluicegate"}


@pytest.mark.parametrize("name", ["block_egress_destination", "block_ingress_source"])
def test_a_block_between_pods_is_stored_as_it_was_proven(lab: Cluster, name: ActionName) -> None:
    victim = Endpoint(
        ip="198.18.7.20", port=5432, protocol="TCP", pod="db-1", namespace=lab.namespace, identity="known"
    )
    asked = decision(lab, "enforce", name).model_copy(update={"victims": (victim,)})
    (action,) = responder(lab.gateway()).respond(asked, NOW)
    assert action.outcome == "applied", action.message
    (applied,) = lab.policies().values()
    assert applied["spec"] == action.manifests[0]["spec"]


def test_repeating_a_decision_changes_and_tells_nothing(lab: Cluster) -> None:
    once = responder(lab.gateway())
    once.respond(decision(lab, "enforce", "block_egress_destination"), NOW)
    before = lab.policies()
    assert once.respond(decision(lab, "enforce", "block_egress_destination"), NOW + 30) == ()
    assert responder(lab.gateway()).respond(decision(lab, "enforce", "block_egress_destination"), NOW + 60)
    assert lab.policies() == before


def test_revert_restores_exactly(lab: Cluster) -> None:
    lab.create_policy("theirs", {"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"]})
    policies, pod = lab.policies(), lab.get_pod("web-1")
    acting = responder(lab.gateway())
    (applied,) = acting.respond(decision(lab, "enforce", "quarantine_pod"), NOW)
    assert applied.outcome == "applied", applied.message
    assert lab.get_pod("web-1")["metadata"]["labels"]["sluicegate.io/quarantine"] == applied.response_id
    (reverted,) = acting.revert(applied.response_id, "alice", NOW + 5)
    assert (reverted.outcome, reverted.operator) == ("reverted", "alice")
    assert lab.policies() == policies
    assert _without_version(lab.get_pod("web-1")) == _without_version(pod)


def _without_version(item: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {k: v for k, v in item["metadata"].items() if k not in ("resourceVersion", "managedFields")}
    return {**item, "metadata": metadata}


def test_expiry_takes_back_only_what_is_due_even_after_a_restart(lab: Cluster) -> None:
    (applied,) = responder(lab.gateway()).respond(decision(lab, "enforce", "quarantine_pod"), NOW)
    fresh = responder(lab.gateway())
    assert fresh.expire(NOW + 599) == ()
    assert lab.policies()
    (expired,) = fresh.expire(NOW + 600)
    assert (expired.outcome, expired.response_id) == ("expired", applied.response_id)
    assert lab.policies() == {}
    assert "sluicegate.io/quarantine" not in lab.get_pod("web-1")["metadata"]["labels"]
    assert fresh.expire(NOW + 601) == ()


def test_a_foreign_object_of_the_same_name_is_refused_and_untouched(lab: Cluster) -> None:
    name = f"sluicegate-e2e{lab.namespace[-8:]}"
    lab.create_policy(name, {"podSelector": {"matchLabels": {"app": "none"}}, "policyTypes": ["Ingress"]})
    before = lab.policies()
    (action,) = responder(lab.gateway()).respond(decision(lab, "enforce", "block_egress_destination"), NOW)
    assert (action.outcome, action.reason) == ("failed", "foreign")
    assert lab.policies() == before


def test_a_foreign_object_is_never_deleted(lab: Cluster) -> None:
    acting = responder(lab.gateway())
    (applied,) = acting.respond(decision(lab, "enforce", "block_egress_destination"), NOW)
    name = applied.manifests[0]["metadata"]["name"]
    lab.client.patch(
        RawNetworkPolicy,
        name,
        {"metadata": {"labels": {"app.kubernetes.io/managed-by": "helm"}}},
        namespace=lab.namespace,
    )
    with pytest.raises(ClusterError, match="left untouched"):
        lab.gateway().undo(applied.undo[0])
    assert name in lab.policies()


def test_the_ladder_goes_on_when_policies_already_allow_the_attack(lab: Cluster) -> None:
    lab.create_policy("allow", {"podSelector": {"matchLabels": {"app": "web"}}, "egress": [{}]})
    actions = responder(lab.gateway()).respond(
        decision(lab, "enforce", "block_egress_destination", "quarantine_pod"), NOW
    )
    assert [(action.outcome, action.reason) for action in actions] == [
        ("refused", "not_blocked"),
        ("refused", "not_blocked"),
    ]
    assert f"egress allowed by {lab.namespace}/allow" in actions[0].message
    assert set(lab.policies()) == {"allow"}


def test_a_quarantine_that_fails_half_way_is_taken_back(
    lab: Cluster, kubeconfig_with: Callable[[Sequence[Mapping[str, Any]]], Path]
) -> None:
    rules = [*READ_RULES, *_rules("block_egress_destination")]
    gateway = lab.gateway(kubeconfig_with(rules))
    (action,) = responder(gateway).respond(decision(lab, "enforce", "quarantine_pod"), NOW)
    assert (action.outcome, action.reason) == ("failed", "forbidden")
    assert "\n" not in action.message
    assert "pods" in action.message
    assert lab.policies() == {}


def test_notes_are_written_and_taken_back_exactly_by_whoever_does_it(
    lab: Cluster, kubeconfig_with: Callable[[Sequence[Mapping[str, Any]]], Path]
) -> None:
    pod, other = lab.get_pod("web-1"), lab.get_pod("db-1")
    acting = responder(lab.gateway(kubeconfig_with([*READ_RULES, *_rules("annotate")])))
    (first,) = acting.respond(decision(lab, "enforce", "annotate"), NOW)
    assert (first.outcome, first.reason) == ("applied", "nothing_to_prove"), first.message
    second = decision(lab, "enforce", "annotate").model_copy(update={"id": "another", "ttl_s": 3600})
    assert [item.outcome for item in acting.respond(second, NOW)] == ["applied"]
    assert len(lab.get_pod("web-1")["metadata"]["annotations"]) == 2
    assert acting.reconcile(NOW + 30) == ()
    fresh = responder(lab.gateway())
    (expired,) = [item for item in fresh.expire(NOW + 600) if item.response_id == first.response_id]
    assert (expired.outcome, expired.alert_id) == ("expired", "alert-1")
    assert list(lab.get_pod("web-1")["metadata"]["annotations"]) == ["incident.sluicegate.io/another"]
    (reverted,) = fresh.revert("another", "alice", NOW + 700)
    assert reverted.outcome == "reverted", reverted.message
    assert _without_version(lab.get_pod("web-1")) == _without_version(pod)
    assert lab.get_pod("db-1") == other


def test_telling_writes_nothing_but_an_event(
    lab: Cluster, kubeconfig_with: Callable[[Sequence[Mapping[str, Any]]], Path]
) -> None:
    pod = lab.get_pod("web-1")
    acting = responder(lab.gateway(kubeconfig_with([*READ_RULES, *_rules("notify")])))
    (told,) = acting.respond(decision(lab, "enforce", "notify"), NOW)
    assert told.outcome == "applied", told.message
    (event,) = list(lab.client.list(RawEvent, namespace=lab.namespace))
    assert (event["reason"], event["involvedObject"]["name"]) == ("AttackNoted", "web-1")
    assert lab.get_pod("web-1") == pod
    assert lab.policies() == {}


@pytest.mark.parametrize("name", ["block_egress_destination", "block_ingress_source", "quarantine_pod"])
def test_the_role_that_an_action_asks_for_is_enough(
    lab: Cluster, kubeconfig_with: Callable[[Sequence[Mapping[str, Any]]], Path], name: ActionName
) -> None:
    gateway = lab.gateway(kubeconfig_with([*READ_RULES, *_rules(name)]))
    acting, asked = responder(gateway), decision(lab, "enforce", name)
    if name == "block_ingress_source":
        asked = asked.model_copy(update={"attackers": asked.victims, "victims": asked.attackers})
    (applied,) = acting.respond(asked, NOW)
    assert applied.outcome == "applied", applied.message
    if name == "quarantine_pod":
        (taken,) = acting.expire(NOW + 600)
        assert taken.outcome == "expired", taken.message
    else:
        gateway.undo(applied.undo[0])
    assert lab.policies() == {}


def _rules(name: str) -> list[dict[str, Any]]:
    return [
        {"apiGroups": [item.group], "resources": [item.resource], "verbs": list(item.verbs)}
        for item in load_actions()[name].RBAC
    ]


def test_a_token_without_rights_yields_one_clear_line(
    lab: Cluster, kubeconfig_with: Callable[[Sequence[Mapping[str, Any]]], Path]
) -> None:
    gateway = lab.gateway(kubeconfig_with([]))
    (action,) = responder(gateway).respond(decision(lab, "enforce", "block_egress_destination"), NOW)
    assert (action.outcome, action.reason) == ("failed", "forbidden")
    assert action.message.startswith("cannot get ConfigMap sluicegate/sluicegate-stop: ")
    assert "docs/response.md" in action.message
    assert "\n" not in action.message
    (failed,) = responder(gateway).expire(NOW)
    assert (failed.outcome, failed.reason) == ("failed", "forbidden")


def test_rights_are_what_the_server_says(
    lab: Cluster, kubeconfig_with: Callable[[Sequence[Mapping[str, Any]]], Path]
) -> None:
    gateway = lab.gateway(kubeconfig_with(_rules("quarantine_pod")))
    assert gateway.may("patch", "", "pods")
    assert not gateway.may("delete", "", "pods")
    assert not gateway.may("create", "", "pods/eviction")
    assert lab.gateway().may("create", "", "pods/eviction")
