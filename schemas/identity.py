"""Who had an address at a time."""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable, Set
from heapq import heappop, heappush
from typing import Any

from schemas.addresses import pack
from schemas.cluster_objects import ClusterObjects
from schemas.exceptions import RoleRule
from schemas.finding import Endpoint
from schemas.inventory import InventoryObject
from schemas.pod_index import PodIndex
from schemas.timeline import FOREVER, Span, Timeline

API_SERVICE = "default/kubernetes"  # the Service by which every cluster offers its API server
# Events are kept for a day; one more lets a replay of all of them find everybody who was there.
HORIZON_SECONDS = 2 * 86_400
# About 2 kB each. Of a cluster with 5,000 pods of which 50 a second are replaced it holds the last half hour.
MOST_STATEMENTS = 100_000
_CLUSTERS = 1024  # of which watermarks are kept
# Of one object: its labels may change every second, its neighbours' history must not suffer.
MOST_OF_ONE = 64
_SHARED_TEXTS = ("cluster", "namespace", "workload", "node", "service")
_SHARED_MAPPINGS = ("labels", "ports", "selector")
_NOTHING: set[str] = set()
_WITHOUT_ADDRESSES = frozenset({"Namespace", "EndpointSlice", "NetworkPolicy"})

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Range = tuple[int, int, int]  # version, length of the prefix, prefix
_Cover = str | _Range


class IdentityTable:
    """Address to object, valid in time, of bounded size.

    A statement about a uid holds until its ``valid_to``, or until a later statement about the same uid
    begins, whatever order they come in; one with an equal ``valid_from`` replaces the earlier-told one, but
    does not take back an end: whoever still tells of an object that is gone has not heard of it yet.
    Where several objects had an address, the one with the latest ``valid_from`` answers. Ranges apply
    where no object does, the narrowest first.

    What ended ``HORIZON_SECONDS`` before the watermark is forgotten; above ``most`` statements, what ended
    first. What still holds is never forgotten, and what is new is then refused. All of it depends on the order of
    statements alone.

    Args:
        objects: statements to begin with.
        most: statements kept at once.
    """

    offset = 0  # of inventory.v1, up to which the table was told by `pair`

    def __init__(self, objects: Iterable[InventoryObject] = (), most: int = MOST_STATEMENTS) -> None:
        self._most = most
        self._history: dict[str, list[InventoryObject]] = {}
        self._statements = 0
        self._timelines: dict[_Cover, Timeline] = {}
        self._ranges: dict[tuple[int, int], int] = {}  # ranges told by version and length of their prefix
        self.pods = PodIndex()
        self._endings: list[tuple[int, str, int]] = []  # heap of (end, uid, begin); some are out of date
        self._shared: dict[object, Any] = {}  # labels that many objects have, once
        # Packed addresses of objects that lie outside the ranges for private use.
        self.public_addresses: set[bytes] = set()
        self.public_changes = 0  # of that set, so far
        # Packed addresses of the API server's Service.
        self.api_addresses: set[bytes] = set()
        # By cluster: all that was so there for cuts up to this one has been said.
        self.watermarks: dict[str, int] = {}
        self.watermark = -1  # the latest of them; -1: nobody said so
        self.forgotten = 0  # statements let go to make room, though they may be asked for
        self.refused = 0  # statements not taken, because as many hold at once as there is room for
        self._declared: tuple[RoleRule, ...] = ()
        self._roles_by_service = False
        self._services: dict[str, dict[str, dict[str, None]]] = {}  # uids by namespace and name
        self._labelled: dict[str, set[bytes]] = {}
        self.cluster = ClusterObjects()
        self.told = 0  # statements and declarations so far that may change answers: while it stands, so do spans
        for item in objects:
            self.add(item)

    def __len__(self) -> int:
        return sum(isinstance(cover, str) for cover in self._timelines)

    def counts(self) -> dict[str, int]:
        """Return how full the table is, and what it could not keep, by name."""
        return {
            "objects": len(self._history), "statements": self._statements, "addresses": len(self._timelines),
            "forgotten": self.forgotten, "refused": self.refused, "watermark": self.watermark,
        }  # fmt: skip

    def pair(self, offset: int) -> None:
        """Know what inventory.v1 says before an offset; never less than before.

        Nothing to do for a table that is given its objects by other ways: what held when is in their validity.
        """

    def add(self, item: InventoryObject) -> None:
        """Take in one statement.

        Raises:
            ValueError: an address or range is not one; nothing of the statement is taken in then.
        """
        if self.cluster.add(item):
            self.told += 1
            return
        if item.kind == "Watermark":
            if item.cluster in self.watermarks or len(self.watermarks) < _CLUSTERS:
                self.watermarks[item.cluster] = max(self.watermarks.get(item.cluster, -1), item.valid_from)
            self.watermark = max(self.watermark, item.valid_from)
            self._forget(self.watermark - HORIZON_SECONDS)
            return
        self.told += 1
        item = self._slim(item)
        known = any(told.valid_from == item.valid_from for told in self._history.get(item.uid, ()))
        if not known and not self._room():
            self.refused += 1
            return
        history = self._history.setdefault(item.uid, [])
        place = bisect_right(history, item.valid_from, key=_begin)
        if known:
            place -= 1
            item = _ended_like(item, history[place])
            self._leave(history, place)
            history[place] = item
        else:
            history.insert(place, item)
            self._statements += 1
        if place:
            self._leave(history, place - 1)
            self._enter(history, place - 1)
        self._enter(history, place)
        if len(history) > MOST_OF_ONE:
            self._drop(item.uid)

    def _room(self) -> bool:
        while self._statements >= self._most and self._endings:
            self._pop()
        return self._statements < self._most

    def _forget(self, before: int) -> None:
        while self._endings and self._endings[0][0] <= before:
            self._pop(counted=False)

    def _pop(self, *, counted: bool = True) -> None:
        """Let go of what ended first; an entry that is out of date goes alone."""
        end, uid, begin = heappop(self._endings)
        history = self._history.get(uid, [])
        place = bisect_right(history, begin, key=_begin) - 1
        if place >= 0 and history[place].valid_from == begin and _end(history, place) == end:
            # With all before it: they ended when this one began, and would hold again without it.
            for _ in range(place + 1):
                self._drop(uid)
                self.forgotten += counted
            self.told += counted

    def _drop(self, uid: str) -> None:
        """Let go of the earliest statement about an object."""
        history = self._history[uid]
        self._leave(history, 0)
        gone = history.pop(0)
        self._statements -= 1
        if not history:
            del self._history[uid]
            if gone.kind == "Service":
                named = self._services[gone.namespace]
                named[gone.name].pop(uid, None)
                if not named[gone.name]:
                    del named[gone.name]

    def _forget_address(self, address: bytes) -> None:
        self.public_changes += address in self.public_addresses
        for kept in (self.public_addresses, self.api_addresses, *self._labelled.values()):
            kept.discard(address)

    def _enter(self, history: list[InventoryObject], place: int) -> None:
        """Make a statement found by its addresses."""
        item, end = history[place], _end(history, place)
        if end < FOREVER:
            heappush(self._endings, (end, item.uid, item.valid_from))
        span = Span(item.valid_from, item.uid, end, item)
        for cover in _covers(item):
            timeline = self._timelines.get(cover)
            if timeline is None:
                timeline = self._timelines[cover] = Timeline()
                if isinstance(cover, str):
                    self._note_address(cover)
                else:
                    self._ranges[cover[:2]] = self._ranges.get(cover[:2], 0) + 1
            timeline.insert(span)
        self.pods.insert(span)
        self._note(item)

    def _leave(self, history: list[InventoryObject], place: int) -> None:
        item = history[place]
        for cover in _covers(item):
            timeline = self._timelines.get(cover)
            if timeline is None:
                continue
            timeline.remove(item.valid_from, item.uid)
            if not len(timeline):
                del self._timelines[cover]
                if isinstance(cover, str):
                    self._forget_address(pack(cover))
                else:
                    self._ranges[cover[:2]] -= 1
                    if not self._ranges[cover[:2]]:
                        del self._ranges[cover[:2]]
        self.pods.remove(item)

    def _slim(self, item: InventoryObject) -> InventoryObject:
        """Return an object with its addresses as they are usually written; what many objects have is held once.

        Raises:
            ValueError: an address is none.
        """
        fields = dict(item.__dict__)
        if item.kind != "Range":
            fields["ips"] = tuple(dict.fromkeys(str(ipaddress.ip_address(text)) for text in item.ips))
        else:
            fields["ips"] = tuple(dict.fromkeys(str(ipaddress.ip_network(text)) for text in item.ips))
        if len(self._shared) > self._most:
            self._shared.clear()
        for name in _SHARED_TEXTS:
            fields[name] = self._shared.setdefault(fields[name], fields[name])
        for name in _SHARED_MAPPINGS:
            fields[name] = self._shared.setdefault((name, *sorted(fields[name].items())), fields[name])
        # Which fields were given is of no interest here, and would take half a kilobyte for each.
        return InventoryObject.model_construct(_NOTHING, **fields)

    def _note(self, item: InventoryObject) -> None:
        addresses = {pack(cover) for cover in _covers(item) if isinstance(cover, str)} if self._labelled else set()
        if item.kind == "Service":
            self._services.setdefault(item.namespace, {}).setdefault(item.name, {})[item.uid] = None
            if f"{item.namespace}/{item.name}" == API_SERVICE:
                self.api_addresses.update(pack(text) for text in item.ips)
        for label in item.labels.keys() & self._labelled.keys():
            self._labelled[label].update(addresses)

    def _note_address(self, text: str) -> None:
        if not ipaddress.ip_address(text).is_private:
            self.public_addresses.add(pack(text))
            self.public_changes += 1

    def service(self, namespace: str, name: str, at: int) -> InventoryObject | None:
        """Return the Service of a name at a time (s since epoch), or none."""
        for uid in self._services.get(namespace, {}).get(name, ()):
            history = self._history[uid]
            place = bisect_right(history, at, key=_begin) - 1
            if place >= 0 and history[place].name == name and at < _end(history, place):
                return history[place]
        return None

    def service_of(self, item: InventoryObject, at: int) -> str | None:
        """Return namespace/name of the Service that selects a pod at a time, the first by name, or none."""
        labels = item.labels.items()
        for name in sorted(self._services.get(item.namespace, ())) if labels and item.kind == "Pod" else ():
            service = self.service(item.namespace, name, at)
            if service is not None and service.selector and service.selector.items() <= labels:
                return f"{item.namespace}/{name}"
        return None

    def labelled(self, label: str) -> Set[bytes]:
        """Return packed addresses that objects with a label had, as far back as anything is remembered of them."""
        if label not in self._labelled:
            told = (item for history in self._history.values() for item in history if label in item.labels)
            self._labelled[label] = {pack(c) for item in told for c in _covers(item) if isinstance(c, str)}
        return self._labelled[label]

    def declare(self, roles: Iterable[RoleRule]) -> None:
        """Take in the roles that the operator gives to endpoints; they add to those declared before."""
        self._declared = (*self._declared, *roles)
        self._roles_by_service = any(rule.match.services for rule in self._declared)
        self.told += 1

    def find(self, ip: str, at: int) -> InventoryObject | None:
        """Return the object that had an address at a time (s since epoch), or none."""
        timeline = self._timelines.get(ip)
        return timeline.at(at) if timeline is not None else None

    def span(self, ip: str, at: int) -> tuple[int, int]:
        """Return from when to before when ``find`` and ``role`` give the same as at a time, both s since epoch."""
        covers: list[_Cover] = [ip]
        if self._ranges:
            address = ipaddress.ip_address(ip)
            covers += [
                (version, length, int(address) >> (address.max_prefixlen - length))
                for version, length in self._ranges if version == address.version
            ]  # fmt: skip
        spans = [timeline.around(at) for cover in covers if (timeline := self._timelines.get(cover)) is not None]
        return max((begin for begin, _ in spans), default=0), min((end for _, end in spans), default=FOREVER)

    def service_span(self, namespace: str, name: str, at: int) -> tuple[int, int]:
        """Return from when to before when ``service`` gives the same as at a time, both s since epoch."""
        edges = [0, FOREVER]
        for uid in self._services.get(namespace, {}).get(name, ()):
            history = self._history[uid]
            edges += [edge for place, item in enumerate(history) for edge in (item.valid_from, _end(history, place))]
        return max(e for e in edges if e <= at), min(e for e in edges if e > at)

    def role(self, ip: str, at: int) -> str:
        """Return ``shared``, ``internal``, ``external``, ``scanner`` or ``unknown`` for an address."""
        item = self.find(ip, at)
        if item is not None:
            return "shared" if item.kind == "Node" else "internal"
        return self._range_role(ip, at)

    def _range_role(self, ip: str, at: int) -> str:
        if not self._ranges:
            return "unknown"
        address = ipaddress.ip_address(ip)
        for version, length in sorted(self._ranges, reverse=True):
            if version == address.version:
                prefix = int(address) >> (address.max_prefixlen - length)
                timeline = self._timelines.get((version, length, prefix))
                item = timeline.at(at) if timeline is not None else None
                if item is not None:
                    return item.role or "unknown"
        return "unknown"

    def roles(self, ip: str, at: int) -> tuple[str, ...]:
        """Return the roles of an address at a time, sorted: declared ones (``schemas.roles``) and the inventory's.

        The inventory makes nodes and ranges of role ``shared`` shared, and ranges of role ``scanner``
        vulnerability scanners.
        """
        item = self.find(ip, at)
        return self._with_roles(self._identified(Endpoint(ip=ip), item, at, self._roles_by_service), item, at).roles

    def _with_roles(self, endpoint: Endpoint, item: InventoryObject | None, at: int) -> Endpoint:
        found = {rule.role for rule in self._declared if rule.match.fits(endpoint)}
        if item is not None:
            told = "shared" if item.kind == "Node" else ""
        else:
            told = self._range_role(endpoint.ip, at) if self._ranges and endpoint.ip else ""
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
        return self._with_roles(self._identified(plain, item, at, services=True), item, at)

    def _identified(self, plain: Endpoint, item: InventoryObject | None, at: int, services: bool) -> Endpoint:
        """Return an endpoint as the object that has its address."""
        if item is None:
            return plain
        more: dict[str, Any] = {"namespace": item.namespace or None, "identity": "known"}
        if item.kind == "Service":
            more["service"] = f"{item.namespace}/{item.name}"
            return plain.model_copy(update={**more, "namespace": item.namespace})
        more |= {
            "pod": item.name if item.kind == "Pod" else None, "workload": item.workload or None,
            "node": item.node or (item.name if item.kind == "Node" else None), "labels": dict(item.labels),
            "service": self.service_of(item, at) if services else None,
        }  # fmt: skip
        return plain.model_copy(update=more)


def _covers(item: InventoryObject) -> tuple[_Cover, ...]:
    """Return what a statement is found by."""
    if item.kind == "Range":
        return tuple(_range(ipaddress.ip_network(text)) for text in item.ips)
    # A pod on the host network shares its node's address: the node is the honest answer.
    return () if item.host_network and item.kind == "Pod" else item.ips


def _range(network: _Network) -> _Range:
    prefix = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
    return network.version, network.prefixlen, prefix


def _ended_like(item: InventoryObject, before: InventoryObject) -> InventoryObject:
    if item.valid_to is not None or before.valid_to is None:
        return item
    return item.model_copy(update={"valid_to": before.valid_to})


def _begin(item: InventoryObject) -> int:
    return item.valid_from


def _end(history: list[InventoryObject], place: int) -> int:
    own = history[place].valid_to
    told = FOREVER if own is None else own
    return min(told, history[place + 1].valid_from) if place + 1 < len(history) else told
