"""Which addresses serve a Service, as its EndpointSlices and its selector say."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

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
    if ip in _normal((*service.ips, *service.external_ips)):
        return True
    group = (service.namespace, service.name)
    slices = identities.endpoints
    for told in slices.since(group, at - DRAINING, at):
        if ip in _normal(endpoint.address for endpoint in told.endpoints):
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


def _normal(texts: Iterable[str]) -> set[str]:
    return {str(ipaddress.ip_address(text)) for text in texts}
