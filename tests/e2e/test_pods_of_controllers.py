"""Pods that lose labels under the real controllers: detached ones are replaced, quarantined ones leave Services."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lightkube.generic_resource import GenericNamespacedResource, create_api_info
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.types import PatchType

from response.gateway import ClusterError
from response.kube_kinds import RawPod, RawService
from response.responder import Responder
from response.settings import QuarantineSettings, ResponseSettings
from schemas.finding import Endpoint
from schemas.response import ResponseDecision
from tests.e2e import apiserver, controllers
from tests.e2e.conftest import Cluster, PodStatus, kubeconfig_of
from tests.e2e.test_containment import NOW, READ_RULES, _rules, decision
from tests.e2e.workloads import WORKLOADS, NodeStatus, RawNode, endpoints, owned_pods
from tests.lab.lab import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

NODE = "e2e-node"
LABELS = {"app": "import"}
ON = ResponseSettings(opt_in=("detach_pod",))


@pytest.fixture(scope="module")
def admin_kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A server with controllers; the other modules' server has none."""
    yield from kubeconfig_of(_controlled(tmp_path_factory.mktemp("controlled")))


@contextmanager
def _controlled(folder: Path) -> Iterator[apiserver.ApiServer]:
    with apiserver.running(folder) as server, controllers.running(server):
        yield server


@pytest.fixture
def node(cluster: Cluster) -> Iterator[str]:
    cluster.client.create(RawNode(metadata=ObjectMeta(name=NODE)))
    # The server marks every new node as not ready, and no kubelet will say otherwise.
    cluster.client.patch(RawNode, NODE, {"spec": {"taints": []}}, patch_type=PatchType.MERGE)
    yield NODE
    cluster.client.delete(RawNode, NODE)


def address(cluster: Cluster, *, fresh: bool = False) -> str:
    """The suspect's, or that of its replacement. Controllers outlive a test: no other has the same."""
    number = int(cluster.namespace[-4:], 16)
    return f"198.{19 if fresh else 18}.{number >> 8}.{number & 255}"


def run_pod(cluster: Cluster, name: str, ip: str) -> None:
    """What a kubelet would say of a pod that it started."""
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2027-01-15T08:00:00Z"}
    status = {"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready]}}
    cluster.client.patch(PodStatus, name, status, namespace=cluster.namespace, patch_type=PatchType.MERGE)


def started(cluster: Cluster, kind: str) -> dict[str, Any]:
    """One running pod of a new workload, in its Service."""
    service = {"selector": LABELS, "ports": [{"port": 80}]}
    cluster.client.create(RawService(metadata=ObjectMeta(name="import", namespace=cluster.namespace), spec=service))
    WORKLOADS[kind].create(cluster.client, cluster.namespace, "import", LABELS, NODE)
    pods = [dict(item) for item in wait_owned(cluster, 1)]
    run_pod(cluster, pods[0]["metadata"]["name"], address(cluster))
    wait_for(
        lambda: endpoints(cluster.client, cluster.namespace, "import") == {(address(cluster), True)},
        "its endpoint",
        60.0,
    )
    return pods[0]


def wait_owned(cluster: Cluster, count: int) -> list[dict[str, Any]]:
    wait_for(lambda: len(owned_pods(cluster.client, cluster.namespace, "import")) == count, f"{count} pods", 60.0)
    return owned_pods(cluster.client, cluster.namespace, "import")


def asked(cluster: Cluster, pod: Mapping[str, Any]) -> ResponseDecision:
    name = pod["metadata"]["name"]
    attacker = Endpoint(ip=address(cluster), pod=name, namespace=cluster.namespace, identity="known")
    return decision(cluster, "enforce", "detach_pod").model_copy(update={"attackers": (attacker,)})


def pods_by_uid(cluster: Cluster) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["uid"]: dict(item) for item in cluster.client.list(RawPod, namespace=cluster.namespace)}


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet"])
def test_a_replica_set_replaces_it_services_serve_on_and_undo_ends_just_that_pod(
    kind: str, cluster: Cluster, node: str, kubeconfig_with: Callable[[Sequence[Mapping[str, Any]]], Path]
) -> None:
    pod = started(cluster, kind)
    uid = pod["metadata"]["uid"]
    acting = Responder(cluster.gateway(kubeconfig_with([*READ_RULES, *_rules("detach_pod")])), ON, "test")
    (action,) = acting.respond(asked(cluster, pod), NOW)
    assert action.outcome == "applied", action.message
    (fresh,) = [item for item in wait_owned(cluster, 1) if item["metadata"]["uid"] != uid]
    run_pod(cluster, fresh["metadata"]["name"], address(cluster, fresh=True))
    wait_for(
        lambda: endpoints(cluster.client, cluster.namespace, "import") == {(address(cluster, fresh=True), True)},
        "the new one",
        60.0,
    )
    suspect = pods_by_uid(cluster)[uid]
    wait_for(lambda: "ownerReferences" not in pods_by_uid(cluster)[uid]["metadata"], "it to be let go of", 60.0)
    assert suspect["metadata"]["labels"] == {"sluicegate.io/quarantine": action.response_id}
    # A look at everything finds nothing to do, and the decision told again changes nothing.
    assert acting.reconcile(NOW + 30) == ()
    assert acting.respond(asked(cluster, pod), NOW + 30) == ()
    (undone,) = acting.revert(action.response_id, "alice", NOW + 60)
    assert undone.outcome == "reverted", undone.message
    left = pods_by_uid(cluster)
    assert set(left) == {fresh["metadata"]["uid"]}
    assert cluster.policies() == {}
    assert endpoints(cluster.client, cluster.namespace, "import") == {(address(cluster, fresh=True), True)}


def test_another_responder_that_knows_nothing_takes_it_back_when_its_time_has_come(cluster: Cluster, node: str) -> None:
    pod = started(cluster, "ReplicaSet")
    (action,) = Responder(cluster.gateway(), ON, "test").respond(asked(cluster, pod), NOW)
    assert action.outcome == "applied", action.message
    wait_for(lambda: "ownerReferences" not in pods_by_uid(cluster)[pod["metadata"]["uid"]]["metadata"], "it", 60.0)
    (fresh,) = wait_owned(cluster, 1)
    stranger = Responder(cluster.gateway(), ResponseSettings(), "test")
    assert stranger.expire(NOW + 599) == ()
    (expired,) = stranger.expire(NOW + 600)
    assert expired.outcome == "expired", expired.message
    assert set(pods_by_uid(cluster)) == {fresh["metadata"]["uid"]}


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "Job"])
def test_the_others_are_refused_and_nothing_is_touched(kind: str, cluster: Cluster, node: str) -> None:
    pod = started(cluster, kind)
    before = pods_by_uid(cluster)
    (action,) = Responder(cluster.gateway(), ON, "test").respond(asked(cluster, pod), NOW)
    assert (action.outcome, action.reason) == ("refused", "not_replaceable"), action.message
    assert pods_by_uid(cluster) == before
    assert cluster.policies() == {}


def test_a_pod_of_the_same_name_is_left_alone(cluster: Cluster) -> None:
    """Somebody deleted the suspect and made another of its name: the step is about the first."""
    cluster.pod("web-1", address(cluster), {"sluicegate.io/quarantine": "r1"})
    gateway = cluster.gateway()
    metadata = {"name": "web-1", "namespace": cluster.namespace, "uid": "another",
                "labels": {"sluicegate.io/quarantine": "r1"}}  # fmt: skip
    gateway.undo({"step": "delete_detached", "object": {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}})
    assert cluster.get_pod("web-1")["metadata"]["name"] == "web-1"


LEAVE = ResponseSettings(quarantine=QuarantineSettings(services="leave"))


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "Job"])
def test_a_quarantined_pod_leaves_the_services_that_its_controller_does_not_need_and_comes_back(
    kind: str, cluster: Cluster, node: str
) -> None:
    """One Service finds it by a label of its own, the other by that of the controller."""
    pod = started(cluster, kind)
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    cluster.client.patch(RawPod, name, {"metadata": {"labels": {"tier": "front"}}}, namespace=cluster.namespace)
    front = {"selector": {"tier": "front"}, "ports": [{"port": 80}]}
    cluster.client.create(RawService(metadata=ObjectMeta(name="front", namespace=cluster.namespace), spec=front))
    wait_for(
        lambda: endpoints(cluster.client, cluster.namespace, "front") == {(address(cluster), True)}, "the other", 60.0
    )
    before = pods_by_uid(cluster)[uid]["metadata"]
    acting = Responder(cluster.gateway(), LEAVE, "test")
    quarantine = asked(cluster, pod).model_copy(update={"actions": ("quarantine_pod",)})
    (action,) = acting.respond(quarantine, NOW)
    assert action.outcome == "applied", action.message
    wait_for(lambda: endpoints(cluster.client, cluster.namespace, "front") == set(), "it to leave", 60.0)
    # A Job finds its pods by a label of its own: it needs none of those of Services.
    stays = set() if kind == "Job" else {(address(cluster), True)}
    assert endpoints(cluster.client, cluster.namespace, "import") == stays
    held = pods_by_uid(cluster)[uid]["metadata"]
    assert held["ownerReferences"] == before["ownerReferences"]
    assert acting.reconcile(NOW + 30) == ()
    # Whoever takes it back knows nothing but what is written on the pod.
    stranger = Responder(cluster.gateway(), ResponseSettings(), "test")
    (undone,) = stranger.revert(action.response_id, "alice", NOW + 60)
    assert undone.outcome == "reverted", undone.message
    wait_for(
        lambda: endpoints(cluster.client, cluster.namespace, "front") == {(address(cluster), True)}, "it back", 60.0
    )
    after = pods_by_uid(cluster)
    assert set(after) == {uid}
    changing = ("resourceVersion", "managedFields", "generation")
    for part in changing:
        before.pop(part, None)
        after[uid]["metadata"].pop(part, None)
    assert after[uid]["metadata"] == before


EVICT = ResponseSettings(opt_in=("evict_pod",))


class RawBudget(GenericNamespacedResource):
    _api_info = create_api_info("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")


def test_an_eviction_ends_the_pod_and_its_replica_set_starts_another(
    cluster: Cluster, node: str, kubeconfig_with: Callable[[Sequence[Mapping[str, Any]]], Path]
) -> None:
    pod = started(cluster, "Deployment")
    acting = Responder(cluster.gateway(kubeconfig_with([*READ_RULES, *_rules("evict_pod")])), EVICT, "test")
    evict = asked(cluster, pod).model_copy(update={"actions": ("evict_pod",)})
    (action,) = acting.respond(evict, NOW)
    assert (action.outcome, action.reason) == ("applied", "nothing_to_prove"), action.message
    uid = pod["metadata"]["uid"]
    wait_for(lambda: uid not in pods_by_uid(cluster) and len(pods_by_uid(cluster)) == 1, "a fresh one", 60.0)
    (fresh,) = pods_by_uid(cluster)
    assert acting.reconcile(NOW + 30) == ()
    (again,) = acting.respond(evict.model_copy(update={"alert_revision": 2}), NOW + 30)
    assert (again.outcome, again.reason) == ("refused", "gone")
    assert set(pods_by_uid(cluster)) == {fresh}


def test_a_disruption_budget_is_respected(cluster: Cluster, node: str) -> None:
    pod = started(cluster, "Deployment")
    budget = {"minAvailable": 1, "selector": {"matchLabels": LABELS}}
    cluster.client.create(RawBudget(metadata=ObjectMeta(name="import", namespace=cluster.namespace), spec=budget))
    status: dict[str, Any] = {}

    def counted() -> bool:
        found = dict(cluster.client.get(RawBudget, "import", namespace=cluster.namespace))
        status.update(found.get("status") or {})
        return status.get("currentHealthy") == 1

    wait_for(counted, "the budget to be counted", 60.0)
    before = pods_by_uid(cluster)
    evict = asked(cluster, pod).model_copy(update={"actions": ("evict_pod",)})
    (action,) = Responder(cluster.gateway(), EVICT, "test").respond(evict, NOW)
    assert (action.outcome, action.reason) == ("failed", "busy"), action.message
    assert "disruption budget" in action.message
    assert set(pods_by_uid(cluster)) == set(before)


def test_another_pod_of_the_same_name_is_not_evicted(cluster: Cluster, node: str) -> None:
    pod = started(cluster, "StatefulSet")
    target = {"name": pod["metadata"]["name"], "namespace": cluster.namespace}
    stale = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": target,
             "deleteOptions": {"preconditions": {"uid": "another"}}}  # fmt: skip
    with pytest.raises(ClusterError) as caught:
        cluster.gateway().apply(stale)
    assert caught.value.reason == "conflict"
    assert set(pods_by_uid(cluster)) == {pod["metadata"]["uid"]}


def ready_node(cluster: Cluster, name: str) -> None:
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    cluster.client.patch(NodeStatus, name, status, patch_type=PatchType.MERGE)


def node_document(cluster: Cluster, name: str) -> dict[str, Any]:
    found = dict(cluster.client.get(RawNode, name))
    kept = {key: value for key, value in found["metadata"].items() if key not in ("resourceVersion", "managedFields")}
    return {"metadata": kept, "spec": dict(found.get("spec") or {})}


@pytest.fixture
def second(cluster: Cluster, node: str) -> Iterator[str]:
    cluster.client.create(RawNode(metadata=ObjectMeta(name="e2e-second")))
    cluster.client.patch(RawNode, "e2e-second", {"spec": {"taints": []}}, patch_type=PatchType.MERGE)
    ready_node(cluster, node)
    ready_node(cluster, "e2e-second")
    yield "e2e-second"
    cluster.client.delete(RawNode, "e2e-second")


CORDON = ResponseSettings(opt_in=("cordon_node",))


def test_a_node_is_cordoned_and_is_what_it_was_afterwards(
    cluster: Cluster, node: str, second: str, kubeconfig_with: Callable[[Sequence[Mapping[str, Any]]], Path]
) -> None:
    pod = started(cluster, "ReplicaSet")
    before = node_document(cluster, node)
    acting = Responder(cluster.gateway(kubeconfig_with([*READ_RULES, *_rules("cordon_node")])), CORDON, "test")
    cordon = asked(cluster, pod).model_copy(update={"actions": ("cordon_node",)})
    (action,) = acting.respond(cordon, NOW)
    assert (action.outcome, action.target) == ("applied", f"node/{node}"), action.message
    held = node_document(cluster, node)
    assert held["spec"]["unschedulable"] is True
    assert held["metadata"]["labels"]["sluicegate.io/response"] == action.response_id
    assert acting.reconcile(NOW + 30) == ()
    assert acting.respond(cordon.model_copy(update={"alert_revision": 2}), NOW + 30) == ()
    stranger = Responder(cluster.gateway(), ResponseSettings(), "test")
    (expired,) = stranger.expire(NOW + 600)
    assert expired.outcome == "expired", expired.message
    assert node_document(cluster, node) == before
    assert set(pods_by_uid(cluster)) == {pod["metadata"]["uid"]}


def test_the_last_node_that_takes_pods_is_not_cordoned(cluster: Cluster, node: str) -> None:
    if apiserver.external_kubeconfig() is not None:
        pytest.skip("a cluster of somebody's has other nodes")
    pod = started(cluster, "ReplicaSet")
    ready_node(cluster, node)
    before = node_document(cluster, node)
    cordon = asked(cluster, pod).model_copy(update={"actions": ("cordon_node",)})
    (action,) = Responder(cluster.gateway(), CORDON, "test").respond(cordon, NOW)
    assert (action.outcome, action.reason) == ("refused", "last_node"), action.message
    assert node_document(cluster, node) == before
