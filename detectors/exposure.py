"""Parts of a cluster that are reached by who should not: the control plane by pods, Services from outside."""

from __future__ import annotations

from collections.abc import Sequence

from detectors.base import TickView
from detectors.outside import is_outside_text
from detectors.policy_check import Connection
from detectors.sign import Sign
from schemas.endpoints import offered
from schemas.finding import Severity
from schemas.inventory import InventoryObject
from schemas.policy.addresses import span_of_address, span_of_cidr
from schemas.roles import SHARED

# A kubelet's own port asks who comes, its read-only port and etcd's do not always.
_KUBELET, _READ_ONLY, _ETCD = 10250, 10255, (2379, 2380)
CONTROL_PORTS = (_KUBELET, _READ_ONLY, *_ETCD)
CONTROL_PLANE = {"kubelet_reachable": "T1609", "etcd_reachable": "T1552"}


def control_plane(view: TickView, connection: Connection, at: int, own: Sequence[str]) -> list[Sign]:
    """Return whether a pod conversed with a kubelet or with etcd.

    Args:
        view: of the tick.
        connection: after address translation.
        at: s since epoch.
        own: namespaces whose pods may.
    """
    source, target, flow = connection.source, connection.target, connection.flow
    if source is None or source.kind != "Pod" or source.namespace in own or target is None or flow.protocol != "TCP":
        return []
    if SHARED.intersection(view.roles(flow.source, at)) or "monitoring_scraper" in view.roles(flow.source, at):
        return []
    what = ""
    if flow.port in (_KUBELET, _READ_ONLY) and target.kind == "Node":
        what = "kubelet_reachable"
    elif flow.port in _ETCD and (target.kind == "Node" or target.namespace in own):
        what = "etcd_reachable"
    if not what:
        return []
    severity: Severity = "low" if flow.port == _KUBELET else "medium"
    who = f"{source.namespace}/{source.workload or source.name}"
    place = f"{target.kind.lower()} {target.name}"
    summary = f"pod {who} conversed with port {flow.port} of {place}: nothing keeps pods from it"
    return [Sign(what, f"{who} {flow.port}", severity, f"{place}, port {flow.port}", summary)]


def exposures(view: TickView, connection: Connection, at: int, label: str) -> list[Sign]:
    """Return whether an address outside conversed with a Service that should not be reached from there.

    Args:
        view: of the tick.
        connection: before address translation.
        at: s since epoch.
        label: of Services whose node ports are open on purpose.
    """
    flow = connection.flow
    if connection.source is not None or not is_outside_text(flow.source) or view.roles(flow.source, at):
        return []
    if view.identities.role(flow.source, at) == "internal":
        return []
    found: list[Sign] = []
    for service in offered(view.identities, flow.destination, flow.protocol, flow.port, at):
        name = f"{service.namespace}/{service.name}"
        way = f"{flow.source} outside the cluster conversed with {flow.destination} port {flow.port}"
        if service.source_ranges and not _within(flow.source, service.source_ranges):
            detail = f"Service {name}: {', '.join(service.source_ranges)}"
            summary = f"{way}, Service {name}, whose source ranges do not let it in: nothing enforces them there"
            found.append(Sign("load_balancer_open", name, "medium", detail, summary))
        elif service.service_type == "NodePort" and not _is_on_purpose(service, label):
            detail = f"Service {name}: NodePort {flow.port}"
            summary = f"{way}, the node port of Service {name}, which no label {label} declares to be open"
            found.append(Sign("node_port_exposed", name, "low", detail, summary))
    return found


def _is_on_purpose(service: InventoryObject, label: str) -> bool:
    return service.labels.get(label, "false") != "false"


def _within(ip: str, ranges: Sequence[str]) -> bool:
    return any(span_of_cidr(cidr).covers(span_of_address(ip)) for cidr in ranges)
