"""What an inventory tells besides who has which address: policies, endpoints, and where Services are reached."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from schemas.addresses import pack
from schemas.inventory import InventoryObject
from schemas.policy.table import PolicyTable
from schemas.statements import Statements

ANY_NODE = ""
Place = tuple[str, str, int]  # address or ``ANY_NODE``, protocol, port
ServiceKey = tuple[str, str]  # namespace, name
_ADDRESSES = 1 << 18  # endpoints whose Services are remembered; the oldest are forgotten first


class ClusterObjects:
    """Statements about objects of kinds that have no address, and what Services offer.

    Attributes:
        policies: NetworkPolicies and namespaces' labels.
        endpoints: EndpointSlices by namespace and Service.
        service_addresses: packed cluster addresses of Services; only ever grows.
        services: namespace and name of every Service ever told of, oldest first.
    """

    def __init__(self) -> None:
        self.policies = PolicyTable()
        self.endpoints = Statements()
        self.service_addresses: set[bytes] = set()
        self.services: dict[ServiceKey, None] = {}
        self._offers: dict[Place, dict[ServiceKey, None]] = {}
        self._served: dict[str, dict[ServiceKey, None]] = {}

    def add(self, item: InventoryObject) -> bool:
        """Take in one statement; tell whether it is of a kind that has no addresses.

        Raises:
            ValueError: an address is none; nothing of the statement is taken in then.
        """
        if item.kind in ("Namespace", "NetworkPolicy"):
            self.policies.add(item)
            return True
        if item.kind == "EndpointSlice":
            self._add_endpoints(item)
            return True
        if item.kind == "Service":
            self._add_service(item)
        return False

    def _add_service(self, item: InventoryObject) -> None:
        addresses, places = {pack(ip) for ip in item.ips}, places_of(item)
        self.service_addresses |= addresses
        self.services[item.namespace, item.name] = None
        for place in places:
            self._offers.setdefault(place, {})[item.namespace, item.name] = None

    def _add_endpoints(self, item: InventoryObject) -> None:
        addresses = [normal(endpoint.address) for endpoint in item.endpoints]
        self.endpoints.add((item.namespace, item.service), item)
        for address in addresses:
            self._served.setdefault(address, {})[item.namespace, item.service] = None
        while len(self._served) > _ADDRESSES:
            del self._served[next(iter(self._served))]

    def services_of(self, ip: str) -> Iterable[ServiceKey]:
        """Return the Services that an address ever was an endpoint of, oldest first."""
        return self._served.get(ip, {})

    def offering(self, place: Place) -> Iterable[ServiceKey]:
        """Return the Services that were ever reached at a place from outside the cluster, oldest first."""
        return self._offers.get(place, {})

    @property
    def offered_ports(self) -> set[int]:
        """Ports at which Services were ever reached from outside."""
        return {port for _, _, port in self._offers}


def places_of(service: InventoryObject) -> set[Place]:
    """Return where a Service is reached from outside the cluster.

    Raises:
        ValueError: an address is none.
    """
    ports = service.service_ports
    found = {(normal(ip), port.protocol, port.port) for ip in service.external_ips for port in ports}
    return found | {(ANY_NODE, port.protocol, port.node_port) for port in ports if port.node_port}


def normal(text: str) -> str:
    """Return an address in its normal form.

    Raises:
        ValueError: it is none.
    """
    return str(ipaddress.ip_address(text))
