"""A quarantine under the real controllers: they keep the pod, its Service keeps serving it, undo is exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from lightkube.generic_resource import GenericNamespacedResource, create_api_info
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.types import CascadeType

from response.kube import RawPod, RawService
from tests.e2e import controllers
from tests.e2e.apiserver import ApiServer
from tests.e2e.enforcement.conftest import Enforced, Respond
from tests.e2e.enforcement.decisions import decision
from tests.e2e.enforcement.lab_cluster import LabCluster
from tests.e2e.enforcement.probers import now
from tests.lab import pods
from tests.lab.lab import wait_for
from tests.lab.pods import BY_NAME

pytestmark = [pytest.mark.e2e, pytest.mark.lab, pytest.mark.timeout(300)]

WEB, ATTACKER = BY_NAME["web"], BY_NAME["attacker"]
NAMESPACE = ATTACKER.namespace
LABELS = {"app": "import"}


class RawReplicaSet(GenericNamespacedResource):
    _api_info = create_api_info("apps", "v1", "ReplicaSet", "replicasets")


class RawStatefulSet(GenericNamespacedResource):
    _api_info = create_api_info("apps", "v1", "StatefulSet", "statefulsets")


class RawDaemonSet(GenericNamespacedResource):
    _api_info = create_api_info("apps", "v1", "DaemonSet", "daemonsets")


class RawJob(GenericNamespacedResource):
    _api_info = create_api_info("batch", "v1", "Job", "jobs")


class RawEndpointSlice(GenericNamespacedResource):
    _api_info = create_api_info("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")


@dataclass(frozen=True)
class Workload:
    """A kind of owner and what its spec has beside selector and template."""

    kind: type[Any]
    more: Mapping[str, Any]

    def create(self, cluster: LabCluster, name: str, labels: Mapping[str, str]) -> None:
        """Create one with a pod on the lab's node; a Job finds its pods by a label of its own."""
        job = self.kind is RawJob
        spec: dict[str, Any] = {
            "template": {
                "metadata": {"labels": dict(labels)},
                "spec": {
                    "nodeName": pods.NODE,
                    "terminationGracePeriodSeconds": 0,
                    "restartPolicy": "Never" if job else "Always",
                    "containers": [{"name": "main", "image": "example.invalid/none"}],
                },
            },
            **self.more,
        }
        if not job:
            spec["selector"] = {"matchLabels": dict(labels)}
        cluster.client.create(self.kind(metadata=ObjectMeta(name=name, namespace=NAMESPACE), spec=spec))

    def pods(self, cluster: LabCluster, name: str) -> list[dict[str, Any]]:
        """The pods that it owns."""
        found = [dict(item) for item in cluster.client.list(RawPod, namespace=NAMESPACE)]
        return [pod for pod in found if (name in [o["name"] for o in pod["metadata"].get("ownerReferences", ())])]


WORKLOADS = {
    "ReplicaSet": Workload(RawReplicaSet, {"replicas": 1}),
    "StatefulSet": Workload(RawStatefulSet, {"replicas": 1, "serviceName": "import"}),
    "DaemonSet": Workload(RawDaemonSet, {}),
    "Job": Workload(RawJob, {"backoffLimit": 0}),
}


@pytest.fixture(scope="module")
def controlled(server: ApiServer) -> Iterator[ApiServer]:
    with controllers.running(server):
        yield server


def endpoints(cluster: LabCluster) -> set[tuple[str, bool]]:
    """Addresses of the Service, and whether each is ready."""
    slices = [dict(item) for item in cluster.client.list(RawEndpointSlice, namespace=NAMESPACE)]
    return {
        (address, bool(end["conditions"].get("ready")))
        for part in slices if part["metadata"]["labels"].get("kubernetes.io/service-name") == "import"
        for end in part.get("endpoints") or () for address in end["addresses"]
    }  # fmt: skip


@pytest.mark.parametrize("kind", sorted(WORKLOADS))
def test_a_quarantined_pod_stays_its_owners_and_its_services(
    kind: str, controlled: ApiServer, enforced: Enforced, respond: Respond
) -> None:
    workload = WORKLOADS[kind]
    cluster = enforced(("web", "attacker"))
    cluster.serve("web")
    cluster.remove_pod(ATTACKER)
    service = {"selector": LABELS, "ports": [{"port": 80}]}
    cluster.client.create(RawService(metadata=ObjectMeta(name="import", namespace=NAMESPACE), spec=service))
    workload.create(cluster, "import", LABELS)
    wait_for(lambda: len(workload.pods(cluster, "import")) == 1, f"the pod of the {kind}", 60.0)
    (pod,) = workload.pods(cluster, "import")
    name = pod["metadata"]["name"]
    cluster.run_pod(NAMESPACE, name, ATTACKER)
    wait_for(lambda: endpoints(cluster) == {(ATTACKER.ip4, True)}, "the Service to have it", 60.0)
    attack = cluster.prober("attacker", "fresh", WEB.ip4)
    before = cluster.objects()
    began = now()
    responder = respond(cluster)
    asked = decision(ATTACKER, WEB, began, "quarantine_pod", pod=name)
    (action,) = responder.respond(asked, began)
    assert action.outcome == "applied", action.message
    attack.closed(began)
    # Another of the kind is served after this: whatever the change set off has had its turn.
    workload.create(cluster, "later", {"app": "later"})
    wait_for(lambda: len(workload.pods(cluster, "later")) == 1, f"a later {kind}", 60.0)
    (kept,) = workload.pods(cluster, "import")
    assert kept["metadata"]["uid"] == pod["metadata"]["uid"]
    assert endpoints(cluster) == {(ATTACKER.ip4, True)}
    lifted = now()
    (undone,) = responder.revert(action.response_id, "alice", lifted)
    assert undone.outcome == "reverted", undone.message
    attack.opened(lifted)
    later = f"{NAMESPACE}/{workload.pods(cluster, 'later')[0]['metadata']['name']}"
    assert {key: item for key, item in cluster.objects().items() if later not in key} == before
    for left in ("import", "later"):
        cluster.client.delete(workload.kind, left, namespace=NAMESPACE, cascade=CascadeType.BACKGROUND)
    cluster.client.delete(RawService, "import", namespace=NAMESPACE)
    wait_for(
        lambda: not workload.pods(cluster, "import") + workload.pods(cluster, "later"),
        "the pods to go with their owners", 60.0,
    )  # fmt: skip
