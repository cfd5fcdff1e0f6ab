"""The lab as the cluster would describe it: one InventoryObject a line, valid at any time."""

from __future__ import annotations

from typing import Any

import orjson

from schemas.inventory import EndpointPort, InventoryObject, ServiceEndpoint, ServicePort
from schemas.policy.networkpolicy import PolicySpec
from tests.lab import pods
from tests.lab.pods import PODS, Pod

CLUSTER = "lab"
PORTS = {"web": {"http": 80}, "api": {"http": 8080}, "db": {"postgresql": 5432}, "dns": {"dns": 53}}
SERVICES = (("shop", "web", "10.96.0.10", 80), ("shop", "api", "10.96.0.11", 80), ("shop", "db", "10.96.0.12", 5432))

# The first is the label by which clusters mark their DNS, whatever serves it; proofs look for it.
MARKS = {
    "dns": {"k8s-app": "kube-dns"},
    "db": {"sluicegate.io/sensitive": "true"},
    "api": {"sluicegate.io/mtls-ports": "8443"},
}


def _labels(app: str) -> dict[str, str]:
    return {"app": app, **MARKS.get(app, {})}


def _pod(pod: Pod) -> InventoryObject:
    ordinal = "-0" if pod.workload_kind == "StatefulSet" else f"-7d9f{pod.host:02d}"
    return InventoryObject(
        kind="Pod", uid=f"pod-{pod.name}", cluster=CLUSTER, namespace=pod.namespace,
        name=f"{pod.workload}{ordinal}", ips=(pod.ip4, pod.ip6), labels=_labels(pod.app),
        workload=f"{pod.workload_kind}/{pod.workload}", node=pods.NODE, interface=pod.veth,
        ports=PORTS.get(pod.name, {}),
    )  # fmt: skip


def _service(namespace: str, name: str, address: str, port: int) -> InventoryObject:
    (port_name,) = PORTS[name]
    return InventoryObject(
        kind="Service", uid=f"service-{name}", cluster=CLUSTER, namespace=namespace, name=name, ips=(address,),
        service_ports=(ServicePort(name=port_name, port=port, target_port=port_name),), selector={"app": name},
    )  # fmt: skip


def _dns_service() -> InventoryObject:
    ports = (
        ServicePort(name="dns", protocol="UDP", port=53, target_port=53),
        ServicePort(name="dns-tcp", protocol="TCP", port=53, target_port=53),
    )
    return InventoryObject(
        kind="Service", uid="service-dns", cluster=CLUSTER, namespace="kube-system", name="dns",
        ips=("10.96.0.53",), service_ports=ports, selector=_labels("dns"),
    )  # fmt: skip


def _slice(name: str) -> InventoryObject:
    behind = [pod for pod in PODS if pod.app == name]
    return InventoryObject(
        kind="EndpointSlice", uid=f"slice-{name}", cluster=CLUSTER, namespace="shop", name=f"{name}-1", service=name,
        endpoints=tuple(ServiceEndpoint(address=pod.ip4, node=pods.NODE) for pod in behind),
        endpoint_ports=tuple(EndpointPort(name=port, port=number) for port, number in PORTS[name].items()),
    )  # fmt: skip


def _policy(namespace: str, name: str, spec: dict[str, Any]) -> InventoryObject:
    return InventoryObject(
        kind="NetworkPolicy", uid=f"policy-{namespace}-{name}", cluster=CLUSTER, namespace=namespace, name=name,
        policy=PolicySpec.model_validate(spec),
    )  # fmt: skip


def _policies() -> list[InventoryObject]:
    """What the shop lets in; and what the batch namespace may send: to the web, and to any address by port 53."""
    deny = {"podSelector": {}, "policyTypes": ["Ingress"]}
    dns = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    own = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["api", "worker"]}]}
    to_web = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}, "podSelector": _by("web")}
    db = {"from": [{"podSelector": own}], "ports": [{"port": "postgresql"}]}
    return [
        *(_policy(space, "default-deny", deny) for space in sorted({pod.namespace for pod in PODS})),
        _policy("shop", "web", {"podSelector": _by("web"), "ingress": [{"ports": [{"port": 80}]}]}),
        _policy("shop", "db", {"podSelector": _by("db"), "ingress": [db]}),
        _policy("kube-system", "dns", {"podSelector": {}, "ingress": [{"ports": dns}]}),
        _policy("batch", "egress", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [
            {"ports": dns}, {"to": [to_web], "ports": [{"port": 80}]}]}),
    ]  # fmt: skip


def _by(app: str) -> dict[str, Any]:
    return {"matchLabels": {"app": app}}


def objects() -> list[InventoryObject]:
    """Namespaces, the node, pods, services and the pod ranges, in that order."""
    spaces = [
        InventoryObject(
            kind="Namespace", uid=f"namespace-{name}", cluster=CLUSTER, name=name,
            labels={"kubernetes.io/metadata.name": name},
        )
        for name in sorted({pod.namespace for pod in PODS})
    ]  # fmt: skip
    node = InventoryObject(
        kind="Node", uid=f"node-{pods.NODE}", cluster=CLUSTER, name=pods.NODE,
        ips=(pods.NODE_UPLINK4, pods.NODE_UPLINK6, pods.GATEWAY4, pods.GATEWAY6),
    )  # fmt: skip
    ranges = [
        InventoryObject(kind="Range", uid=f"range-{n}", cluster=CLUSTER, name=f"pods-{n}", ips=(cidr,), role="internal")
        for n, cidr in enumerate((pods.POD_CIDR4, pods.POD_CIDR6, pods.OTHER_NODE_CIDR4))
    ]
    services = [_service(*each) for each in SERVICES]
    return [*spaces, node, *(_pod(pod) for pod in PODS), *services, _dns_service(), *ranges]


def lines(full: bool = False) -> bytes:
    """The inventory as JSON lines, keys sorted, fields at their default left out.

    With `full` it also tells endpoints and NetworkPolicies, which nobody in the lab enforces.
    """
    more = [*(_slice(name) for _, name, _, _ in SERVICES), *_policies()] if full else []
    dumped = (each.model_dump(mode="json", by_alias=True, exclude_defaults=True) for each in [*objects(), *more])
    return b"".join(orjson.dumps(each, option=orjson.OPT_SORT_KEYS) + b"\n" for each in dumped)
