"""One object of each kind that the inventory is made of, and the rights to see them."""

from __future__ import annotations

from typing import Any

from lightkube.resources.apps_v1 import ReplicaSet
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Node, Service
from lightkube.resources.discovery_v1 import EndpointSlice

from response.kube_kinds import RawNetworkPolicy, RawPod

# The chart's role of the inventory agent; tests/unit/chart compares it with this.
RIGHTS: list[dict[str, Any]] = [
    {"apiGroups": [""], "resources": ["namespaces", "nodes", "pods", "services"],
     "verbs": ["list", "watch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies", "servicecidrs"], "verbs": ["list", "watch"]},
    {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["get"]},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get"]},
]  # fmt: skip

UID = "00000000-0000-4000-8000-00000000000"
CONTAINERS = {"containers": [{"name": "main", "image": "none"}]}
TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": CONTAINERS}


def _owner(api: str, kind: str, name: str) -> dict[str, Any]:
    # Nobody collects garbage here, so an owner may have any uid.
    return {"apiVersion": api, "kind": kind, "name": name, "uid": f"{UID}1", "controller": True}


def _pod(namespace: str, name: str, ips: list[str], owner: dict[str, Any] | None = None, **spec: Any) -> Any:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": {"app": "web"}}
    if owner is not None:
        metadata["ownerReferences"] = [{**owner, "uid": f"{UID}{len(owner['name'])}"}]
    document = {"metadata": metadata, "spec": {
        "nodeName": f"{namespace}-node", "containers": [{"name": "main", "image": "none"}],
        "automountServiceAccountToken": False, **spec}}  # fmt: skip
    phase = "Succeeded" if name == "done" else "Running"
    return RawPod, document, {"phase": phase, "podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}


def documents(namespace: str) -> list[tuple[Any, dict[str, Any], dict[str, Any] | None]]:
    """Return kind, document and pod status of objects, in the order in which they can be created."""
    here = {"namespace": namespace}
    node = {"metadata": {"name": f"{namespace}-node"}, "spec": {"podCIDR": "10.64.7.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.77"}]}}  # fmt: skip
    selector = {"matchLabels": {"app": "web"}}
    replicas = {"metadata": {**here, "name": "web-abc", "ownerReferences": [_owner("apps/v1", "Deployment", "web")]},
                "spec": {"selector": selector, "template": TEMPLATE}}  # fmt: skip
    lonely = {"metadata": {**here, "name": "lonely"}, "spec": {"selector": selector, "template": TEMPLATE}}
    job_template = {"spec": {**CONTAINERS, "restartPolicy": "Never"}}
    job = {"metadata": {**here, "name": "nightly-1", "ownerReferences": [_owner("batch/v1", "CronJob", "nightly")]},
           "spec": {"template": job_template}}  # fmt: skip
    service = {"metadata": {**here, "name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}
    endpoint = {"addresses": ["10.64.1.5"], "conditions": {"ready": True}, "nodeName": f"{namespace}-node",
                "targetRef": {"kind": "Pod", "name": "web-1", **here}}  # fmt: skip
    slices = {"metadata": {**here, "name": "web-abc", "labels": {"kubernetes.io/service-name": "web"}},
              "addressType": "IPv4", "endpoints": [endpoint], "ports": [{"port": 8080, "protocol": "TCP"}]}  # fmt: skip
    policy = {"metadata": {**here, "name": "web"}, "spec": {"podSelector": selector, "policyTypes": ["Ingress"]}}
    return [
        (Node, node, None), (ReplicaSet, replicas, None), (ReplicaSet, lonely, None), (Job, job, None),
        (Service, service, None), (EndpointSlice, slices, None), (RawNetworkPolicy, policy, None),
        _pod(namespace, "web-1", ["10.64.1.5", "fd00:64::5"], _owner("apps/v1", "ReplicaSet", "web-abc")),
        _pod(namespace, "nightly", ["10.64.1.6"], _owner("batch/v1", "Job", "nightly-1")),
        _pod(namespace, "other", ["10.64.1.7"], _owner("apps/v1", "ReplicaSet", "lonely")),
        _pod(namespace, "done", ["10.64.1.8"]),
        _pod(namespace, "agent", ["192.0.2.77"], hostNetwork=True),
    ]  # fmt: skip
