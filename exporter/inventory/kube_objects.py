"""Objects of the Kubernetes API as inventory words; pure.

A reader gives the items that one object stands for, none for what has no part in the inventory (any more).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from exporter.inventory.statements import cut_of, part_uid
from schemas.inventory import (
    MAX_ENDPOINT_PORTS,
    MAX_ENDPOINTS,
    EndpointPort,
    InventoryObject,
    ServiceEndpoint,
    ServicePort,
)

Document = Mapping[str, Any]
Reader = Callable[[Document, str], list[InventoryObject]]

_FINISHED = ("Succeeded", "Failed")
_NODE_ADDRESSES = ("InternalIP", "ExternalIP")
# Addresses that network plugins give the node itself inside the pod network; probes and proxied traffic come from them.
_NODE_ANNOTATIONS = (
    "projectcalico.org/IPv4IPIPTunnelAddr", "projectcalico.org/IPv4VXLANTunnelAddr",
    "projectcalico.org/IPv6VXLANTunnelAddr", "projectcalico.org/IPv4WireguardInterfaceAddr",
    "network.cilium.io/ipv4-cilium-host", "network.cilium.io/ipv6-cilium-host", "flannel.alpha.coreos.com/public-ip",
)  # fmt: skip


def read_pod(document: Document, cluster: str) -> list[InventoryObject]:
    """Return a pod that has addresses; its workload is left to who can ask for owners."""
    spec, status = document.get("spec") or {}, document.get("status") or {}
    ips = _distinct([status.get("podIP"), *(each.get("ip") for each in status.get("podIPs") or ())])
    if status.get("phase") in _FINISHED or not ips:
        return []
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    ports = [port for c in (*(spec.get("containers") or ()), *sidecars) for port in c.get("ports") or ()]
    return [_item("Pod", document, cluster, ips=ips, valid_from=_address_since(document),
                  node=spec.get("nodeName") or "", host_network=bool(spec.get("hostNetwork")),
                  ports={p["name"]: p["containerPort"] for p in ports if p.get("name")})]  # fmt: skip


def _address_since(document: Document) -> int:
    """Return the cut from which a pod has its addresses: when its sandbox was ready, else what comes closest."""
    status = document.get("status") or {}
    ready = [c.get("lastTransitionTime") for c in status.get("conditions") or ()
             if c.get("type") == "PodReadyToStartContainers" and c.get("status") == "True"]  # fmt: skip
    running = [((c.get("state") or {}).get("running") or {}).get("startedAt")
               for c in status.get("containerStatuses") or ()]  # fmt: skip
    for texts in (ready, running, [status.get("startTime")], [document["metadata"].get("creationTimestamp")]):
        cuts = [_cut(text) for text in texts if text]
        if cuts:
            return min(cuts)
    return 0


def read_service(document: Document, cluster: str) -> list[InventoryObject]:
    """Return a Service."""
    spec = document.get("spec") or {}
    balancer = ((document.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    local = (spec.get("internalTrafficPolicy"), spec.get("externalTrafficPolicy"))
    ports = tuple(
        ServicePort(name=p.get("name") or "", protocol=p.get("protocol") or "TCP", port=p["port"],
                    target_port=p.get("targetPort") or p["port"], node_port=p.get("nodePort") or 0)
        for p in spec.get("ports") or ()
    )  # fmt: skip
    return [_item("Service", document, cluster,
                  ips=_distinct(t for t in (spec.get("clusterIP"), *(spec.get("clusterIPs") or ())) if t != "None"),
                  service_type=spec.get("type") or "ClusterIP", service_ports=ports,
                  selector=spec.get("selector") or {},
                  external_ips=_distinct([*(spec.get("externalIPs") or ()), *(each.get("ip") for each in balancer)]),
                  source_ranges=tuple(spec.get("loadBalancerSourceRanges") or ()),
                  session_affinity=spec.get("sessionAffinity") == "ClientIP",
                  local_traffic="Local" in local)]  # fmt: skip


def read_endpoint_slice(document: Document, cluster: str) -> list[InventoryObject]:
    """Return the endpoints of a Service; none for a slice of names."""
    if document.get("addressType") == "FQDN":
        return []
    endpoints = tuple(
        ServiceEndpoint(address=each["addresses"][0], ready=(each.get("conditions") or {}).get("ready") is not False,
                        terminating=bool((each.get("conditions") or {}).get("terminating")),
                        pod=_pod_name(each.get("targetRef")), node=each.get("nodeName") or "")
        for each in (document.get("endpoints") or ())[:MAX_ENDPOINTS] if each.get("addresses")
    )  # fmt: skip
    ports = tuple(
        EndpointPort(name=p.get("name") or "", protocol=p.get("protocol") or "TCP", port=p.get("port") or 0)
        for p in (document.get("ports") or ())[:MAX_ENDPOINT_PORTS]
    )
    labels = document["metadata"].get("labels") or {}
    return [_item("EndpointSlice", document, cluster, service=labels.get("kubernetes.io/service-name") or "",
                  endpoints=endpoints, endpoint_ports=ports)]  # fmt: skip


def _pod_name(reference: Document | None) -> str:
    return reference.get("name") or "" if reference and reference.get("kind") == "Pod" else ""


def read_network_policy(document: Document, cluster: str) -> list[InventoryObject]:
    """Return a NetworkPolicy with its spec. Raises ValueError for one that cannot be read with certainty."""
    return [_item("NetworkPolicy", document, cluster, policy=document.get("spec") or {"podSelector": {}})]


def read_namespace(document: Document, cluster: str) -> list[InventoryObject]:
    """Return a namespace."""
    return [_item("Namespace", document, cluster)]


def read_node(document: Document, cluster: str) -> list[InventoryObject]:
    """Return a node, and the range of its pods where it has one.

    Network address and first host of that range are the node's too: with the usual bridges and tunnels these are the
    addresses from which it speaks to pods. A pod that has one of them is told later and stands above the node.
    """
    spec, status = document.get("spec") or {}, document.get("status") or {}
    annotations = document["metadata"].get("annotations") or {}
    networks = [ipaddress.ip_network(text, strict=False) for text in _distinct(
        [spec.get("podCIDR"), *(spec.get("podCIDRs") or ())])]  # fmt: skip
    ips = [
        *(a.get("address") for a in status.get("addresses") or () if a.get("type") in _NODE_ADDRESSES),
        *(annotations[name].partition("/")[0] for name in _NODE_ANNOTATIONS if name in annotations),
        *(str(network[host]) for network in networks if network.num_addresses > 2 for host in (0, 1)),
    ]
    node = _item("Node", document, cluster, ips=_distinct(ips))
    return [node, *(_range(node, str(network), f"pods of {node.name}") for network in networks)]


def read_service_cidr(document: Document, cluster: str) -> list[InventoryObject]:
    """Return the ranges from which Services get their addresses."""
    owner = _item("Namespace", document, cluster)  # for its names and time only
    return [_range(owner, text, f"services {owner.name}") for text in (document.get("spec") or {}).get("cidrs") or ()]


def _range(owner: InventoryObject, cidr: str, name: str) -> InventoryObject:
    return InventoryObject(kind="Range", uid=part_uid(owner.uid, cidr), cluster=owner.cluster, name=name[:253],
                           ips=(cidr,), role="internal", valid_from=owner.valid_from)  # fmt: skip


def controller(document: Document) -> Document | None:
    """Return the reference to the owner that controls an object, or none."""
    owners: Sequence[Document] = (document.get("metadata") or {}).get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)


def guessed_workload(document: Document, owner: Document) -> str:
    """Return ``Kind/name`` of a pod's workload from the pod alone: a ReplicaSet's name says its Deployment."""
    kind, name = str(owner.get("kind") or ""), str(owner.get("name") or "")
    template = (document["metadata"].get("labels") or {}).get("pod-template-hash")
    if kind == "ReplicaSet" and template and name.endswith(f"-{template}"):
        return f"Deployment/{name.removesuffix(f'-{template}')}"
    return f"{kind}/{name}"


def _item(kind: str, document: Document, cluster: str, **fields: Any) -> InventoryObject:
    metadata = document["metadata"]
    created = metadata.get("creationTimestamp")
    own = {"valid_from": _cut(created) if created else 0, **fields}
    return InventoryObject.model_validate({
        "kind": kind, "uid": metadata["uid"], "cluster": cluster, "namespace": metadata.get("namespace") or "",
        "name": metadata["name"], "labels": metadata.get("labels") or {}, **own,
    })  # fmt: skip


def _distinct(texts: Iterable[str | None]) -> tuple[str, ...]:
    """Return addresses or ranges once each, as they are usually written. Raises ValueError for what is neither."""
    return tuple(dict.fromkeys(text if "/" in text else str(ipaddress.ip_address(text)) for text in texts if text))


def _cut(text: str) -> int:
    return cut_of(datetime.fromisoformat(text).timestamp())
