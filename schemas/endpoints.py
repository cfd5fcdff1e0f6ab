"""Which addresses serve a Service, as its EndpointSlices and its selector say."""

from __future__ import annotations

from collections.abc import Iterator

from schemas.cluster_objects import ANY_NODE, normal, places_of
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject

# s for which an endpoint that was taken out may go on serving the connections that it has.
DRAINING = 3600


def serves(identities: IdentityTable, service: InventoryObject, ip: str, at: int) -> bool | None:
    """Tell whether an address is a Service's own or of an endpoint of it; none where the inventory cannot say.

    Args:
        identities: who had which address.
        service: as stated at that time.
        ip: address in normal form.
        at: s since epoch; endpoints that were taken out less than an hour before still count.
    """
    if ip in map(normal, (*service.ips, *service.external_ips)):
        return True
    group = (service.namespace, service.name)
    slices = identities.cluster.endpoints
    for told in slices.since(group, at - DRAINING, at):
        if any(ip == normal(endpoint.address) for endpoint in told.endpoints):
            return True
    item = identities.find(ip, at)
    if item is not None and item.kind == "Pod" and service.selector:
        before = identities.find(ip, item.valid_from - 1) if item.valid_from > at - DRAINING else None
        return any(_selects(service, pod) for pod in (item, before) if pod is not None)
    if item is None and service.selector:
        return None
    # What backs a Service without a selector is written by hand: only its slices tell. A node may be a pod's host.
    return False if slices.has(group) and (item is None or item.kind != "Node") else None


def _selects(service: InventoryObject, pod: InventoryObject) -> bool:
    return pod.namespace == service.namespace and service.selector.items() <= pod.labels.items()


def services_of_pod(identities: IdentityTable, pod: InventoryObject, ip: str, at: int) -> list[str]:
    """Return the names of a pod's namespace's Services that it is behind, by selector or by EndpointSlice."""
    names = {name for namespace, name in identities.cluster.services_of(ip) if namespace == pod.namespace}
    for namespace, name in identities.cluster.services:
        told = identities.service(namespace, name, at) if namespace == pod.namespace else None
        if told is not None and told.selector and _selects(told, pod):
            names.add(name)
    return sorted(names)


def offered(identities: IdentityTable, ip: str, protocol: str, port: int, at: int) -> Iterator[InventoryObject]:
    """Return the Services that are reached from outside at an address and port: a node's, or one of their own."""
    item = identities.find(ip, at)
    places = [(ip, protocol, port)]
    if item is not None and item.kind == "Node":
        places.append((ANY_NODE, protocol, port))
    for place in places:
        for namespace, name in identities.cluster.offering(place):
            told = identities.service(namespace, name, at)
            if told is not None and place in places_of(told):
                yield told
