"""What the inventory says of the cluster's DNS: who resolves, who asks, which answers are right."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from enum import IntEnum

from detectors.outside import is_outside_text
from detectors.timed_memory import TimedMemory
from schemas.cluster_objects import normal
from schemas.endpoints import serves
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_ALWAYS = (0, 1 << 62)


class Kind(IntEnum):
    """What an address is to DNS."""

    RESOLVER = 0  # of the cluster
    GROUP = 1  # of multicast DNS
    POD = 2
    OTHER = 3


class ClusterDns:
    """Looks up the same few addresses and answers over and over; what it remembers is no state."""

    def __init__(self, domain: str, resolvers: Mapping[str, str]) -> None:
        """Begin.

        Args:
            domain: of the cluster's own names.
            resolvers: labels of the cluster's resolvers; their Services select the same.
        """
        self.suffix = f".{domain.strip('.').lower()}"
        self._resolvers = resolvers
        self._kinds: TimedMemory[Kind] = TimedMemory()
        self._answers: TimedMemory[bool] = TimedMemory()

    def kind(self, identities: IdentityTable, ip: str, tick: int) -> Kind:
        """Return what an address is at a tick."""
        return self._kinds.get(
            identities, ip, tick, lambda: (self._kind(identities, ip, tick), *identities.span(ip, tick))
        )

    def _kind(self, identities: IdentityTable, ip: str, tick: int) -> Kind:
        item = identities.find(ip, tick)
        if self._resolves(identities, ip, tick, item):
            return Kind.RESOLVER
        if ipaddress.ip_address(ip).is_multicast:
            return Kind.GROUP
        return Kind.POD if item is not None and item.kind == "Pod" else Kind.OTHER

    def _resolves(self, identities: IdentityTable, ip: str, tick: int, item: InventoryObject | None) -> bool:
        """Tell whether an address is a resolver of the cluster: by role, by label, or a cache on the node."""
        if "resolver" in identities.roles(ip, tick) or ipaddress.ip_address(ip).is_link_local:
            return True
        if item is None:
            return False
        told = item.selector if item.kind == "Service" else item.labels
        return item.kind == "Node" or any(told.get(k) == v for k, v in self._resolvers.items())

    def fits(self, identities: IdentityTable, name: str, data: str, tick: int) -> bool:
        """Tell whether an address may be given for a name: it is the cluster's own, or inside, or no address."""
        return self._answers.get(identities, (name, data), tick, lambda: self._fits(identities, name, data, tick))

    def _fits(self, identities: IdentityTable, name: str, data: str, tick: int) -> tuple[bool, int, int]:
        try:
            address = ipaddress.ip_address(data)
        except ValueError:
            return True, *_ALWAYS  # damaged, or cut
        names = self._service_name(name)
        if names is None:
            return not is_outside_text(str(address)), *_ALWAYS
        service = identities.service(*names, tick)
        begin, end = identities.service_span(*names, tick)
        if service is None:
            return not is_outside_text(str(address)), begin, end
        if str(address) in map(normal, service.ips):
            return True, begin, end
        # Endpoints come and go, and count for a while after they went: looked at anew each second.
        return _may_answer(identities, service, address, tick), tick, tick + 1

    def service(self, identities: IdentityTable, name: str, tick: int) -> InventoryObject | None:
        """Return the Service that a name is of, where the inventory knows it."""
        names = self._service_name(name)
        return identities.service(*names, tick) if names is not None else None

    def _service_name(self, name: str) -> tuple[str, str] | None:
        """Return namespace and name of the Service in a name, where it is the name of one."""
        labels = name.removesuffix(self.suffix).split(".")
        if name.endswith(self.suffix) and len(labels) == 3 and labels[2] == "svc":
            return labels[1], labels[0]
        return None


def _may_answer(identities: IdentityTable, service: InventoryObject, address: Address, tick: int) -> bool:
    """Tell whether an address is a Service's own or of an endpoint of it, as far as the inventory knows."""
    told = serves(identities, service, str(address), tick)
    if told is None and service.selector:
        # A pod that just came or went; of a headless Service this is the rule in a rollout.
        return not service.ips and not is_outside_text(str(address))
    return told is not False
