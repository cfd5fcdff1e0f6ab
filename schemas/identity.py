"""Who had an address at a time."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from schemas.finding import Endpoint
from schemas.inventory import InventoryObject

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class IdentityTable:
    """Address to object, valid in time.

    Later statements about the same uid replace earlier ones whose validity they end; lookups take the
    object valid at the asked time with the latest ``valid_from``. Ranges apply where no object does.
    """

    def __init__(self, objects: Iterable[InventoryObject] = ()) -> None:
        self._by_ip: dict[str, dict[tuple[str, int], InventoryObject]] = {}
        self._ranges: dict[str, tuple[_Network, InventoryObject]] = {}
        for item in objects:
            self.add(item)

    def __len__(self) -> int:
        return len(self._by_ip)

    def add(self, item: InventoryObject) -> None:
        """Take in one statement.

        Raises:
            ValueError: an address or range is not one.
        """
        if item.kind == "Range":
            for text in item.ips:
                self._ranges[text] = (ipaddress.ip_network(text), item)
            return
        if item.kind == "Namespace":
            return
        for text in item.ips:
            address = str(ipaddress.ip_address(text))
            self._by_ip.setdefault(address, {})[(item.uid, item.valid_from)] = item

    def find(self, ip: str, at: int) -> InventoryObject | None:
        """Return the object that had an address at a time (s since epoch), or none."""
        best: InventoryObject | None = None
        for item in self._by_ip.get(ip, {}).values():
            if item.valid_from <= at and (item.valid_to is None or at < item.valid_to):
                # A pod on the host network shares its node's address: the node is the honest answer.
                if item.kind == "Pod" and item.host_network:
                    continue
                if best is None or (item.valid_from, item.uid) > (best.valid_from, best.uid):
                    best = item
        return best

    def role(self, ip: str, at: int) -> str:
        """Return ``shared``, ``internal``, ``external``, ``scanner`` or ``unknown`` for an address."""
        item = self.find(ip, at)
        if item is not None:
            return "shared" if item.kind == "Node" else "internal"
        address = ipaddress.ip_address(ip)
        matching = [(net.prefixlen, o) for net, o in self._ranges.values() if address in net]
        if matching:
            return max(matching, key=lambda pair: pair[0])[1].role or "unknown"
        return "unknown"

    def endpoint(self, ip: str, at: int, *, port: int | None = None, protocol: str | None = None,
                 mac: str | None = None, interface: str | None = None) -> Endpoint:  # fmt: skip
        """Return an endpoint with all that is known of its address at a time."""
        item = self.find(ip, at)
        if item is None:
            return Endpoint(ip=ip, port=port, protocol=protocol, mac=mac, interface=interface)
        if item.kind == "Service":
            return Endpoint(
                ip=ip, port=port, protocol=protocol, mac=mac, interface=interface,
                service=f"{item.namespace}/{item.name}", namespace=item.namespace, identity="known",
            )  # fmt: skip
        return Endpoint(
            ip=ip, port=port, protocol=protocol, mac=mac, interface=interface,
            pod=item.name if item.kind == "Pod" else None, namespace=item.namespace or None,
            workload=item.workload or None, node=item.node or (item.name if item.kind == "Node" else None),
            labels=dict(item.labels), identity="known",
        )  # fmt: skip
