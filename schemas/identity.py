"""Who had an address at a time."""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from typing import Any

from schemas.addresses import pack
from schemas.cluster_objects import ClusterObjects
from schemas.exceptions import RoleRule
from schemas.finding import Endpoint
from schemas.inventory import InventoryObject

API_SERVICE = "default/kubernetes"  # the Service by which every cluster offers its API server

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class _Statement:
    item: InventoryObject
    covers: frozenset[str | _Network]


class IdentityTable:
    """Address to object, valid in time.

    A statement about a uid holds until its ``valid_to``, or until a later statement about the same uid
    begins, whatever order they come in; one with an equal ``valid_from`` replaces the earlier-told one.
    Where several objects had an address, the one with the latest ``valid_from`` answers. Ranges apply
    where no object does, the narrowest first.
    """

    def __init__(self, objects: Iterable[InventoryObject] = ()) -> None:
        self._history: dict[str, list[_Statement]] = {}
        self._uids: dict[str, dict[str, None]] = {}
        self._networks: dict[_Network, dict[str, None]] = {}
        # Packed addresses of objects that lie outside the ranges for private use; only ever grows, like the history.
        self.public_addresses: set[bytes] = set()
        # Packed addresses of the API server's Service; likewise.
        self.api_addresses: set[bytes] = set()
        self._declared: tuple[RoleRule, ...] = ()
        self._services: dict[tuple[str, str], dict[str, None]] = {}  # uids by namespace and name
        self._labelled: dict[str, set[bytes]] = {}
        self.cluster = ClusterObjects()
        self.told = 0  # statements and declarations taken in so far: while it stands, so does what a span tells
        for item in objects:
            self.add(item)

    def __len__(self) -> int:
        return len(self._uids)

    def add(self, item: InventoryObject) -> None:
        """Take in one statement.

        Raises:
            ValueError: an address or range is not one; nothing of the statement is taken in then.
        """
        self.told += 1
        if self.cluster.add(item):
            return
        parse: Callable[[str], str | _Network] = ipaddress.ip_network if item.kind == "Range" else _normal
        covers = frozenset(parse(text) for text in item.ips)
        for cover in covers:
            if isinstance(cover, str):
                self._uids.setdefault(cover, {})[item.uid] = None
                if not ipaddress.ip_address(cover).is_private:
                    self.public_addresses.add(pack(cover))
            else:
                self._networks.setdefault(cover, {})[item.uid] = None
        if item.kind == "Service" and f"{item.namespace}/{item.name}" == API_SERVICE:
            self.api_addresses.update(pack(cover) for cover in covers if isinstance(cover, str))
        if item.kind == "Service":
            self._services.setdefault((item.namespace, item.name), {})[item.uid] = None
        for label in item.labels.keys() & self._labelled.keys():
            self._labelled[label] |= _packed(covers)
        others = [known for known in self._history.get(item.uid, ()) if known.item.valid_from != item.valid_from]
        self._history[item.uid] = sorted([*others, _Statement(item, covers)], key=_begin)

    def service(self, namespace: str, name: str, at: int) -> InventoryObject | None:
        """Return the Service of a name at a time (s since epoch), or none."""
        for uid in self._services.get((namespace, name), ()):
            history = self._history[uid]
            number = bisect_right(history, at, key=_begin)
            item = history[number - 1].item if number else None
            if item is not None and item.name == name and (item.valid_to is None or at < item.valid_to):
                return item
        return None

    def labelled(self, label: str) -> Set[bytes]:
        """Return packed addresses that objects with a label ever had; only ever grows, like the history."""
        if label not in self._labelled:
            told = (s for history in self._history.values() for s in history if label in s.item.labels)
            self._labelled[label] = {address for statement in told for address in _packed(statement.covers)}
        return self._labelled[label]

    def declare(self, roles: Iterable[RoleRule]) -> None:
        """Take in the roles that the operator gives to endpoints; they add to those declared before."""
        self._declared = (*self._declared, *roles)
        self.told += 1

    def _valid(self, uids: Iterable[str], cover: str | _Network, at: int) -> Iterator[InventoryObject]:
        """Return what held at a time and covered an address or a range, of these uids."""
        for uid in uids:
            history = self._history[uid]
            number = bisect_right(history, at, key=_begin)
            if number and cover in history[number - 1].covers:
                item = history[number - 1].item
                if item.valid_to is None or at < item.valid_to:
                    yield item

    def find(self, ip: str, at: int) -> InventoryObject | None:
        """Return the object that had an address at a time (s since epoch), or none."""
        best: InventoryObject | None = None
        for item in self._valid(self._uids.get(ip, ()), ip, at):
            # A pod on the host network shares its node's address: the node is the honest answer.
            if item.kind == "Pod" and item.host_network:
                continue
            if best is None or (item.valid_from, item.uid) > (best.valid_from, best.uid):
                best = item
        return best

    def span(self, ip: str, at: int) -> tuple[int, int]:
        """Return from when to before when ``find`` gives the same as at a time, both s since epoch."""
        return self._span(self._uids.get(ip, ()), at)

    def service_span(self, namespace: str, name: str, at: int) -> tuple[int, int]:
        """Return from when to before when ``service`` gives the same as at a time, both s since epoch."""
        return self._span(self._services.get((namespace, name), ()), at)

    def _span(self, uids: Iterable[str], at: int) -> tuple[int, int]:
        told = [statement.item for uid in uids for statement in self._history[uid]]
        edges = [edge for item in told for edge in (item.valid_from, item.valid_to) if edge is not None]
        return max((e for e in edges if e <= at), default=0), min((e for e in edges if e > at), default=1 << 62)

    def role(self, ip: str, at: int) -> str:
        """Return ``shared``, ``internal``, ``external``, ``scanner`` or ``unknown`` for an address."""
        item = self.find(ip, at)
        if item is not None:
            return "shared" if item.kind == "Node" else "internal"
        return self._range_role(ip, at)

    def _range_role(self, ip: str, at: int) -> str:
        if not self._networks:
            return "unknown"
        address = ipaddress.ip_address(ip)
        found = [
            (network.prefixlen, item.valid_from, item.uid, item.role)
            for network, uids in self._networks.items()
            if address in network
            for item in self._valid(uids, network, at)
        ]
        return (max(found)[3] if found else "") or "unknown"

    def roles(self, ip: str, at: int) -> tuple[str, ...]:
        """Return the roles of an address at a time, sorted: declared ones (``schemas.roles``) and the inventory's.

        The inventory makes nodes and ranges of role ``shared`` shared, and ranges of role ``scanner``
        vulnerability scanners.
        """
        return self.endpoint(ip, at).roles

    def _with_roles(self, endpoint: Endpoint, item: InventoryObject | None, at: int) -> Endpoint:
        found = {rule.role for rule in self._declared if rule.match.fits(endpoint)}
        if item is not None:
            told = "shared" if item.kind == "Node" else ""
        else:
            told = self._range_role(endpoint.ip, at) if self._networks and endpoint.ip else ""
        if told == "shared":
            found.add("shared")
        elif told == "scanner":
            found.add("vulnerability_scanner")
        return endpoint.model_copy(update={"roles": tuple(sorted(found))}) if found else endpoint

    def endpoint(self, ip: str, at: int, *, port: int | None = None, protocol: str | None = None,
                 mac: str | None = None, interface: str | None = None) -> Endpoint:  # fmt: skip
        """Return an endpoint with all that is known of its address at a time."""
        item = self.find(ip, at)
        plain = Endpoint(ip=ip, port=port, protocol=protocol, mac=mac, interface=interface)
        return self._with_roles(plain if item is None else _identified(plain, item), item, at)


def _identified(plain: Endpoint, item: InventoryObject) -> Endpoint:
    """Return an endpoint as the object that has its address."""
    more: dict[str, Any] = {"namespace": item.namespace or None, "identity": "known"}
    if item.kind == "Service":
        more["service"] = f"{item.namespace}/{item.name}"
        return plain.model_copy(update={**more, "namespace": item.namespace})
    more |= {
        "pod": item.name if item.kind == "Pod" else None, "workload": item.workload or None,
        "node": item.node or (item.name if item.kind == "Node" else None), "labels": dict(item.labels),
    }  # fmt: skip
    return plain.model_copy(update=more)


def _packed(covers: Iterable[str | _Network]) -> set[bytes]:
    return {pack(cover) for cover in covers if isinstance(cover, str)}


def _normal(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _begin(statement: _Statement) -> int:
    return statement.item.valid_from
