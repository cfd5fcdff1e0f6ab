"""A cluster as its inventory describes it, for planning and proving without a cluster at hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from response.addresses import span_of_address, span_of_cidr
from response.cluster import ClusterView, NamedPort, Pod, Service
from response.networkpolicy import PROTOCOLS, NetworkPolicy, PolicyError, read_policy
from schemas.inventory import InventoryObject

_LIST_KINDS = ("List", "NetworkPolicyList")


def view_of_inventory(
    objects: Iterable[InventoryObject], policies: Iterable[NetworkPolicy] = (), at: int = 0
) -> ClusterView:
    """The cluster at a time (seconds since the epoch) with some policies. Raises ValueError for a bad address.

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
    return ClusterView(
        pods=tuple(_pod(item, nodes.get(item.node, ())) for item in valid if item.kind == "Pod"),
        namespaces={item.name: item.labels for item in valid if item.kind == "Namespace"},
        policies=tuple(policies),
        services=tuple(Service(o.namespace, o.name, o.ips) for o in valid if o.kind == "Service"),
        shared=tuple(shared),
    )


def _pod(item: InventoryObject, node_ips: tuple[str, ...]) -> Pod:
    return Pod(
        namespace=item.namespace or "default",
        name=item.name,
        labels=item.labels,
        ips=item.ips,
        ports=tuple(NamedPort(name, protocol, number) for name, number in item.ports.items() for protocol in PROTOCOLS),
        host_network=item.host_network,
        node_ips=node_ips,
        workload=item.workload,
    )


def read_policies(text: str, name: str) -> tuple[NetworkPolicy, ...]:
    """Every NetworkPolicy in a YAML text, lists included; other kinds are passed over.

    `name` is what errors call the text. Raises PolicyError.
    """
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        message = f"{name}:{f' line {mark.line + 1}:' if mark else ''} not YAML"
        raise PolicyError(message) from None
    items = (item for document in documents for item in _items(document))
    return tuple(read_policy(item) for item in items if item.get("kind") == "NetworkPolicy")


def _items(document: Any) -> list[dict[str, Any]]:
    if not isinstance(document, dict):
        return []
    listed = document.get("items") if document.get("kind") in _LIST_KINDS else [document]
    return [item for item in listed or () if isinstance(item, dict)]
