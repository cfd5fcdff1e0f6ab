"""A cluster as its inventory describes it, for planning and proving without a cluster at hand."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.inventory import InventoryObject
from schemas.policy.addresses import span_of_address, span_of_cidr
from schemas.policy.cluster import ClusterView, Forward, NamedPort, Pod, Service
from schemas.policy.networkpolicy import PROTOCOLS, NetworkPolicy, ObjectMeta, PolicyObject, PolicySpec


def view_of_inventory(
    objects: Iterable[InventoryObject], policies: Iterable[PolicyObject] = (), at: int = 0
) -> ClusterView:
    """The cluster at a time (seconds since the epoch), with some policies besides the inventory's own.

    Raises ValueError for a bad address.

    The latest statement about an object holds. The inventory does not say which protocol a named port has, so the name
    stands for all of them.
    """
    latest: dict[str, InventoryObject] = {}
    for item in sorted(objects, key=lambda item: item.valid_from):
        if item.valid_from <= at:
            latest[item.uid] = item
    valid = [item for item in latest.values() if item.valid_to is None or at < item.valid_to]
    nodes = {item.name: item.ips for item in valid if item.kind == "Node"}
    shared = [span_of_address(text) for ips in nodes.values() for text in ips]
    shared += [
        span_of_cidr(text) for item in valid if item.kind == "Range" and item.role == "shared" for text in item.ips
    ]
    view = ClusterView(
        pods=tuple(pod_of(item, nodes.get(item.node, ())) for item in valid if item.kind == "Pod"),
        namespaces={item.name: item.labels for item in valid if item.kind == "Namespace"},
        policies=tuple(policy_of(item) for item in valid if item.kind == "NetworkPolicy"),
        services=tuple(_service_of(item) for item in valid if item.kind == "Service"),
        shared=tuple(shared),
    )
    return view.with_policies(*policies)


def _service_of(item: InventoryObject) -> Service:
    forwards = tuple(Forward(port.protocol, port.port, port.target_port) for port in item.service_ports)
    return Service(item.namespace, item.name, item.ips, item.selector, forwards)


def policy_of(item: InventoryObject) -> NetworkPolicy:
    """The policy that an object of kind NetworkPolicy states; one without its spec selects its whole namespace."""
    metadata = ObjectMeta(name=item.name, namespace=item.namespace or "default", labels=item.labels)
    return NetworkPolicy(metadata=metadata, spec=item.policy or PolicySpec())


def pod_of(item: InventoryObject, node_ips: tuple[str, ...]) -> Pod:
    """The pod that an object of kind Pod states."""
    return Pod(
        namespace=item.namespace or "default",
        name=item.name,
        labels=item.labels,
        ips=item.ips,
        ports=tuple(NamedPort(name, protocol, number) for name, number in item.ports.items() for protocol in PROTOCOLS),
        host_network=item.host_network,
        node_ips=node_ips,
        workload=item.workload,
        node=item.node,
    )
