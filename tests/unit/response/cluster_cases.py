"""A small cluster and decisions about it, shared by the tests of planning, guarding and responding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from response.gateway import ClusterError, Managed
from response.managed import group_managed, together
from response.marks import marked
from response.objects import DETACHED_ANNOTATION, NOTED_LABEL, QUARANTINE_LABEL, RESPONSE_LABEL, read_taken
from schemas.finding import Endpoint
from schemas.policy.cluster import ClusterView, Controller, Node, Pod, Service
from schemas.policy.dialects import kind_of, read_object
from schemas.policy.networkpolicy import NetworkPolicy, read_policy
from schemas.response import ActionName, Mode, ResponseDecision

NOW = 1_800_000_000
NODE = ("10.9.0.1",)
DNS = Pod(
    "kube-system", "coredns-1", {"k8s-app": "kube-dns"}, ("10.0.9.53",), node_ips=NODE, workload="Deployment/coredns"
)
WEB = Pod(
    "shop", "web-a", {"app": "web", "pod-template-hash": "aa"}, ("10.0.0.10",), node_ips=NODE, workload="Deployment/web"
)
WEB_B = replace(WEB, name="web-b", labels={"app": "web", "pod-template-hash": "bb"}, ips=("10.0.0.11",))
DB = Pod("shop", "db-0", {"app": "db"}, ("10.0.0.20", "fd00::20"), node_ips=NODE, workload="StatefulSet/db")
API = Pod("bank", "api-a", {"app": "api"}, ("10.0.1.10",), node_ips=NODE, workload="Deployment/api")
VIEW = ClusterView(
    pods=(WEB, WEB_B, DB, API, DNS),
    namespaces={"shop": {}, "bank": {}, "kube-system": {}},
    services=(Service("kube-system", "kube-dns", ("10.96.0.10",)),),
)
OUTSIDE = Endpoint(ip="203.0.113.9", port=443, protocol="TCP")


def end(pod: Pod, port: int | None = None, protocol: str | None = None) -> Endpoint:
    return Endpoint(
        ip=pod.ips[0],
        port=port,
        protocol=protocol,
        pod=pod.name,
        namespace=pod.namespace,
        workload=pod.workload or None,
        labels=dict(pod.labels),
        identity="known",
    )


def decision(
    *actions: ActionName,
    attackers: tuple[Endpoint, ...] = (end(WEB),),
    victims: tuple[Endpoint, ...] = (OUTSIDE,),
    mode: Mode = "dry-run",
    **changes: Any,
) -> ResponseDecision:
    values: dict[str, Any] = {
        "id": "0123456789abcdef",
        "alert_id": "alert-1",
        "alert_revision": 1,
        "cluster": "test",
        "detector": "port_scan",
        "kind": "port_scan_vertical",
        "severity": "high",
        "confidence": 0.9,
        "category": "intrusion",
        "mode": mode,
        "actions": actions,
        "attackers": attackers,
        "victims": victims,
        "spoofable": False,
        "decided_tick": NOW,
        "deadline_s": 60,
        "ttl_s": 600,
        "reason": "test",
    }
    return ResponseDecision(**{**values, **changes})


def policy(key: str, spec: dict[str, Any]) -> NetworkPolicy:
    namespace, name = key.split("/")
    return read_policy({"metadata": {"namespace": namespace, "name": name}, "spec": spec})


@dataclass
class MemoryGateway:
    """A cluster in memory that does what the API server does with our objects, and fails on demand."""

    base: ClusterView = VIEW
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    others: dict[str, dict[str, Any]] = field(default_factory=dict)
    pod_metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    fail_on: tuple[str, ...] = ()
    meanwhile: NetworkPolicy | None = None
    switched: str = ""
    events: list[Mapping[str, Any]] = field(default_factory=list)
    owners: tuple[Controller, ...] | None = None
    deleted: list[str] = field(default_factory=list)
    machines: tuple[Node, ...] | None = None
    cordons: dict[str, dict[str, Any]] = field(default_factory=dict)
    evicted: list[str] = field(default_factory=list)
    noted: dict[str, dict[str, str]] = field(default_factory=dict)

    def view(self) -> ClusterView:
        written = (*self.policies.values(), *self.others.values())
        made = self.base.with_policies(*(read_object(item) for item in written))
        for key, metadata in self.pod_metadata.items():
            made = made.with_pod_labels(key, metadata["labels"])
        return replace(made, pods=tuple(map(self._noted, made.pods)))

    def _noted(self, pod: Pod) -> Pod:
        """What the API's reader makes of a pod's annotations."""
        notes = self.pod_metadata.get(pod.key, {}).get("annotations", {})
        return replace(pod, taken=read_taken(notes), detached=DETACHED_ANNOTATION in notes)

    def nodes(self) -> tuple[Node, ...] | None:
        if self.machines is None:
            return None
        held = {name: item["metadata"]["labels"][RESPONSE_LABEL] for name, item in self.cordons.items()}
        return tuple(
            replace(item, unschedulable=True, response_id=held[item.name]) if item.name in held else item
            for item in self.machines
        )

    def controllers(self, namespace: str) -> tuple[Controller, ...] | None:
        return self.owners

    def apply(self, manifest: Mapping[str, Any]) -> None:
        self._maybe_fail(f"apply {manifest['kind']}")
        metadata = manifest["metadata"]
        key = f"{metadata.get('namespace', '')}/{metadata['name']}"
        if manifest["kind"] == "Eviction":
            self.evicted.append(f"{key} {manifest['deleteOptions']['preconditions']['uid']}")
            self.base = replace(self.base, pods=tuple(pod for pod in self.base.pods if pod.key != key))
        elif manifest["kind"] == "Node":
            self.cordons[metadata["name"]] = dict(manifest)
        elif NOTED_LABEL in metadata.get("labels", {}):
            self.noted.setdefault(key, {}).update(metadata["annotations"])
        elif manifest["kind"] == "Pod":
            self.pod_metadata[key] = dict(metadata)
        elif manifest["apiVersion"] == "networking.k8s.io/v1":
            self.policies[key] = dict(manifest)
        else:
            self.others[read_object(manifest).key] = dict(manifest)
        if self.meanwhile is not None:
            self.base = self.base.with_policies(self.meanwhile)

    def undo(self, step: Mapping[str, Any]) -> None:
        self._maybe_fail(f"undo {step['step']}")
        item = step["object"]
        metadata = item["metadata"]
        key = f"{metadata.get('namespace', '')}/{metadata['name']}"
        if item["kind"] == "Node":
            self.cordons.pop(metadata["name"], None)
        elif step["step"] in ("unlabel", "restore"):
            self.pod_metadata.pop(key, None)
        elif step["step"] == "unmark":
            for name in metadata["annotations"]:
                self.noted[key].pop(name, None)
        elif step["step"] == "delete_detached":
            if self.pod_metadata.pop(key, None) is not None:
                self.deleted.append(f"{key} {metadata['uid']}")
                self.base = replace(self.base, pods=tuple(pod for pod in self.base.pods if pod.key != key))
        elif item["apiVersion"] == "networking.k8s.io/v1":
            self.policies.pop(key, None)
        else:
            kind = kind_of(item)
            assert kind is not None
            space = f"{metadata['namespace']}/" if "namespace" in metadata else ""
            self.others.pop(f"{kind.model.kind} {space}{metadata['name']}", None)

    def managed(self, response_id: str | None = None) -> tuple[Managed, ...]:
        self._maybe_fail("managed")
        # As the API gives them: a pod has a spec, though we never write one.
        labelled = [item for item in self.pod_metadata.values() if QUARANTINE_LABEL in item["labels"]]
        pods = [{"metadata": item, "spec": {"nodeName": "node-1"}} for item in labelled]
        held = group_managed((*self.policies.values(), *self.others.values(), *self.cordons.values()), pods)
        marks = [self._marked(key, notes) for key, notes in self.noted.items() if notes]
        found = together((*held, *marked(marks)))
        return tuple(item for item in found if response_id in (None, item.response_id))

    def _marked(self, key: str, notes: dict[str, str]) -> dict[str, Any]:
        namespace, name = key.split("/")
        labels = {NOTED_LABEL: "true"}
        return {"metadata": {"namespace": namespace, "name": name, "labels": labels, "annotations": notes}}

    def kill_switch(self, name: str) -> str:
        self._maybe_fail("kill switch")
        return self.switched

    def note(self, event: Mapping[str, Any]) -> None:
        self._maybe_fail("note")
        self.events.append(event)

    def _maybe_fail(self, what: str) -> None:
        if what in self.fail_on:
            message = f"cannot {what}: no"
            raise ClusterError(message, "forbidden")
