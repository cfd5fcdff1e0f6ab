"""What owns pods, as the real controllers act on it, and the endpoints that they make of Services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightkube import Client
from lightkube.core.resource import ApiInfo, ResourceDef
from lightkube.generic_resource import GenericGlobalResource, GenericNamespacedResource, create_api_info
from lightkube.models.meta_v1 import ObjectMeta

from response.kube_kinds import RawNode, RawPod

__all__ = ["WORKLOADS", "NodeStatus", "RawNode", "Workload", "endpoints", "owned_pods"]


class RawReplicaSet(GenericNamespacedResource):
    _api_info = create_api_info("apps", "v1", "ReplicaSet", "replicasets")


class RawDeployment(GenericNamespacedResource):
    _api_info = create_api_info("apps", "v1", "Deployment", "deployments")


class RawStatefulSet(GenericNamespacedResource):
    _api_info = create_api_info("apps", "v1", "StatefulSet", "statefulsets")


class RawDaemonSet(GenericNamespacedResource):
    _api_info = create_api_info("apps", "v1", "DaemonSet", "daemonsets")


class RawJob(GenericNamespacedResource):
    _api_info = create_api_info("batch", "v1", "Job", "jobs")


class RawEndpointSlice(GenericNamespacedResource):
    _api_info = create_api_info("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")


class NodeStatus(GenericGlobalResource):
    """The status of a Node, which has an endpoint of its own."""

    _api_info = ApiInfo(
        resource=ResourceDef("", "v1", "Node"), parent=ResourceDef("", "v1", "Node"), plural="nodes",
        verbs=["get", "patch", "put"], action="status",
    )  # fmt: skip


@dataclass(frozen=True)
class Workload:
    """A kind of owner and what its spec has beside selector and template."""

    kind: type[Any]
    more: Mapping[str, Any]

    def create(self, client: Client, namespace: str, name: str, labels: Mapping[str, str], node: str) -> None:
        """Create one whose pods are on a node; a Job finds its pods by a label of its own."""
        job = self.kind is RawJob
        spec: dict[str, Any] = {
            "template": {
                "metadata": {"labels": dict(labels)},
                "spec": {
                    "nodeName": node,
                    "terminationGracePeriodSeconds": 0,
                    "restartPolicy": "Never" if job else "Always",
                    "containers": [{"name": "main", "image": "example.invalid/none"}],
                },
            },
            **self.more,
        }
        if not job:
            spec["selector"] = {"matchLabels": dict(labels)}
        client.create(self.kind(metadata=ObjectMeta(name=name, namespace=namespace), spec=spec))


WORKLOADS = {
    "Deployment": Workload(RawDeployment, {"replicas": 1}),
    "ReplicaSet": Workload(RawReplicaSet, {"replicas": 1}),
    "StatefulSet": Workload(RawStatefulSet, {"replicas": 1, "serviceName": "import"}),
    "DaemonSet": Workload(RawDaemonSet, {}),
    "Job": Workload(RawJob, {"backoffLimit": 0}),
}


def owned_pods(client: Client, namespace: str, name: str) -> list[dict[str, Any]]:
    """The pods whose controller's name is, or begins with, a name."""
    found = [dict(item) for item in client.list(RawPod, namespace=namespace)]
    owners = [[owner["name"] for owner in pod["metadata"].get("ownerReferences", ())] for pod in found]
    return [
        pod
        for pod, names in zip(found, owners, strict=True)
        if any(owner == name or owner.startswith(f"{name}-") for owner in names)
    ]


def endpoints(client: Client, namespace: str, service: str) -> set[tuple[str, bool]]:
    """Addresses of a Service, and whether each is ready."""
    slices = [dict(item) for item in client.list(RawEndpointSlice, namespace=namespace)]
    return {
        (address, bool(end["conditions"].get("ready")))
        for part in slices if part["metadata"]["labels"].get("kubernetes.io/service-name") == service
        for end in part.get("endpoints") or () for address in end["addresses"]
    }  # fmt: skip
