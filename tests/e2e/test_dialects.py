"""Every dialect on a real API server with the released definitions: accepted, stored as proven, undone exactly."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from response.gateway import ClusterError
from response.kube_kinds import kind_class, scope_of
from response.plan import load_dialects
from response.responder import Responder
from response.settings import ResponseSettings
from schemas.finding import Endpoint
from schemas.policy.dialects import KINDS
from schemas.policy.words import DIALECTS, Dialect
from schemas.response import ActionName, ResponseDecision
from sluicegate.cluster_checks import findings_of
from tests.e2e import apiserver, dialect_definitions
from tests.e2e.conftest import Cluster, kubeconfig_of
from tests.e2e.test_containment import NOW, OUTSIDE, READ_RULES, decision

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

WEB, DB = "198.18.7.10", "198.18.7.20"
OTHERS = [name for name in DIALECTS if name != "networkpolicy"]
ALLOW_ALL = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}
PROVEN: dict[Dialect, tuple[str, ...]] = {
    "cilium": ("egress outside", "egress pod", "ingress outside", "ingress pod", "quarantine"),
    "calico": ("egress outside", "egress pod", "ingress outside", "ingress pod", "quarantine"),
    "clusternetworkpolicy": ("egress outside", "egress pod", "ingress pod", "quarantine"),
    "adminnetworkpolicy": ("egress outside", "egress pod", "ingress pod", "quarantine"),
    "istio": ("ingress outside", "ingress pod"),
}
CASES = [(name, attack) for name in OTHERS for attack in PROVEN[name]]


@pytest.fixture(scope="module")
def admin_kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A server that knows the other dialects; the other modules' server does not."""
    if apiserver.external_kubeconfig() is not None:
        pytest.skip("the definitions of other dialects are not written into somebody's cluster")
    yield from kubeconfig_of(dialect_definitions.served(apiserver.running(tmp_path_factory.mktemp("dialects"))))


@pytest.fixture
def lab(cluster: Cluster) -> Iterator[Cluster]:
    mesh = {"security.istio.io/tlsMode": "istio"}
    cluster.pod("web-1", WEB, {"app": "web", **mesh})
    cluster.pod("db-1", DB, {"app": "db", **mesh})
    before = written(cluster)
    yield cluster
    left = written(cluster)
    for key in left.keys() - before.keys():
        delete(cluster, left[key])


def written(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Every object of the other dialects, by kind and name."""
    gateway = cluster.gateway()
    found: dict[str, dict[str, Any]] = {}
    for known, version in gateway.served():
        for item in gateway._list_kind(known, version):
            metadata = item["metadata"]
            if metadata.get("namespace") in (None, cluster.namespace):
                found[f"{item['apiVersion']} {item['kind']} {metadata['name']}"] = item
    return found


def create(cluster: Cluster, item: Mapping[str, Any]) -> None:
    known = next(k for k in KINDS if f"{k.group}/{k.versions[0]}" == item["apiVersion"] and k.kind == item["kind"])
    space = {"namespace": cluster.namespace} if known.namespaced else {}
    cluster.gateway()._patch({**item, "metadata": {**item["metadata"], **space}})


def delete(cluster: Cluster, item: Mapping[str, Any]) -> None:
    metadata = item["metadata"]
    cluster.gateway()._client.delete(kind_class(item), metadata["name"], **scope_of(metadata))


def asked(cluster: Cluster, attack: str) -> ResponseDecision:
    web = Endpoint(ip=WEB, pod="web-1", namespace=cluster.namespace, identity="known")
    db = Endpoint(ip=DB, port=5432, protocol="TCP", pod="db-1", namespace=cluster.namespace, identity="known")
    outside = Endpoint(ip=OUTSIDE, port=443, protocol="TCP")
    ends: dict[str, tuple[ActionName, Endpoint, Endpoint]] = {
        "egress outside": ("block_egress_destination", web, outside),
        "egress pod": ("block_egress_destination", web, db),
        "ingress outside": ("block_ingress_source", outside, db),
        "ingress pod": ("block_ingress_source", web, db),
        "quarantine": ("quarantine_pod", web, db),
    }
    action, attacker, victim = ends[attack]
    made = decision(cluster, "enforce", action)
    return made.model_copy(update={"attackers": (attacker,), "victims": (victim,)})


def responder(cluster: Cluster, name: Dialect) -> Responder:
    modes: dict[str, str] = {**dict.fromkeys(DIALECTS, "off"), "networkpolicy": "enforce", name: "enforce"}
    return Responder(cluster.gateway(), ResponseSettings.model_validate({"dialects": modes}), "test")


@pytest.mark.parametrize(("name", "attack"), CASES)
def test_what_is_written_is_accepted_stored_as_proven_and_undone_exactly(
    lab: Cluster, name: Dialect, attack: str
) -> None:
    if name == "calico":
        create(lab, {"apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": "sluicegate"},
                     "spec": {"order": 1}})  # fmt: skip
    if name != "istio" and not (attack == "quarantine" and "network" in name):
        # Somebody allows everything, which a NetworkPolicy could not take back.
        lab.create_policy("all", ALLOW_ALL)
    before, policies, pod = written(lab), lab.policies(), lab.get_pod("web-1")
    acting = responder(lab, name)
    asked_for = asked(lab, attack)
    actions = acting.respond(asked_for, NOW)
    # Istio comes after NetworkPolicy, which does it here unless it is told to keep off.
    if name == "istio":
        for action in actions:
            acting.revert(action.response_id, "alice", NOW)
        settings = ResponseSettings.model_validate({"dialects": {"networkpolicy": "dry-run", "istio": "enforce"}})
        acting = Responder(lab.gateway(), settings, "test")
        actions = acting.respond(asked_for, NOW)
    (applied,) = actions
    assert applied.outcome == "applied", applied.message
    assert applied.proof is not None
    assert applied.proof["dialect"] == name
    after = written(lab)
    added = [after[key] for key in after.keys() - before.keys()]
    plain = ("v1", "networking.k8s.io/v1")
    ours = [item for item in applied.manifests if item["apiVersion"] not in plain]
    assert len(added) == len(ours) > 0
    for item in added:
        manifest = next(one for one in ours if one["metadata"]["name"] == item["metadata"]["name"])
        assert item["spec"] == manifest["spec"], "the API server changed what was proven"
        assert {entry["manager"] for entry in item["metadata"]["managedFields"]} == {"sluicegate"}
    assert [(item.outcome, item.message) for item in acting.reconcile(NOW + 1)] == []
    (reverted,) = acting.revert(applied.response_id, "alice", NOW + 5)
    assert reverted.outcome == "reverted", reverted.message
    assert written(lab) == before
    assert lab.policies() == policies
    assert lab.get_pod("web-1")["metadata"]["labels"] == pod["metadata"]["labels"]


UNREADABLE: list[tuple[Dialect, dict[str, Any], str]] = [
    ("cilium", {
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "names"},
        "spec": {"endpointSelector": {}, "egress": [{"toFQDNs": [{"matchName": "example.org"}]}]},
    }, "toFQDNs"),
    ("istio", {
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "paths"},
        "spec": {"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/admin"]}}]}]},
    }, "paths"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "item", "field"), UNREADABLE, ids=[name for name, _, _ in UNREADABLE])
def test_a_policy_that_cannot_be_evaluated_refuses_by_name(
    lab: Cluster, name: Dialect, item: dict[str, Any], field: str
) -> None:
    create(lab, item)
    actions = responder(lab, name).respond(asked(lab, "ingress pod"), NOW)
    assert {(action.outcome, action.reason) for action in actions} == {("refused", "unread")}
    assert f"{item['kind']} {lab.namespace}/{item['metadata']['name']}" in actions[0].message
    assert field in actions[0].message


def test_the_role_that_a_dialect_asks_for_is_enough_and_without_it_nothing_is_proven(
    lab: Cluster, kubeconfig_with: Callable[[Sequence[Mapping[str, Any]]], Path]
) -> None:
    lists = [
        {"apiGroups": [kind.group], "resources": [kind.plural], "verbs": ["get", "list"]}
        for kind in KINDS
        if kind.dialect == "cilium"
    ]
    writes = [
        {"apiGroups": [right.group], "resources": [right.resource], "verbs": list(right.verbs)}
        for right in load_dialects()["cilium"].RBAC
    ]
    modes = {**dict.fromkeys(DIALECTS, "off"), "networkpolicy": "enforce", "cilium": "enforce"}
    settings = ResponseSettings.model_validate({"dialects": modes})
    blind = Responder(lab.gateway(kubeconfig_with(READ_RULES)), settings, "test")
    actions = blind.respond(asked(lab, "ingress pod"), NOW)
    assert {action.reason for action in actions} == {"unread"}
    assert "may not be listed" in actions[0].message
    seeing = Responder(lab.gateway(kubeconfig_with([*READ_RULES, *lists, *writes])), settings, "test")
    (applied,) = seeing.respond(asked(lab, "ingress pod"), NOW)
    assert applied.outcome == "applied", applied.message
    assert seeing.revert(applied.response_id, "alice", NOW + 1)[0].outcome == "reverted"


def test_a_change_in_another_dialect_wakes_whoever_watches(lab: Cluster) -> None:
    changes = lab.gateway().dialect_changes()
    assert {"ciliumnetworkpolicies.cilium.io", "tiers.projectcalico.org"} <= changes.keys()
    seen: queue.Queue[None] = queue.Queue()

    def watch() -> None:
        seen.put(next(changes["ciliumnetworkpolicies.cilium.io"]()))

    watching = threading.Thread(target=watch)
    watching.start()
    create(lab, {
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "news"},
        "spec": {"endpointSelector": {}, "ingress": [{}]},
    })  # fmt: skip
    seen.get(timeout=30)
    watching.join(10)


def test_the_doctor_sees_every_dialect_and_that_nobody_enforces_it(lab: Cluster) -> None:
    told = {item.name: item for item in findings_of(lab.gateway().view(), ResponseSettings())}
    assert told["enforcer"].found.startswith("NO ENFORCER WAS RECOGNISED")
    for name in OTHERS:
        assert "and nobody was seen to enforce it" in told[name].found
    assert "policy.networking.k8s.io/v1alpha2" in told["clusternetworkpolicy"].found
    assert "projectcalico.org/v3" in told["calico"].found


def test_the_real_server_refuses_what_its_schema_does_not_know(lab: Cluster) -> None:
    """The definitions are those of the releases: they are not so loose that anything would be accepted."""
    wrong = {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "wrong"},
        "spec": {"tier": "Admin", "priority": 1001, "subject": {"namespaces": {}}},
    }
    with pytest.raises(ClusterError, match="priority"):
        create(lab, wrong)
