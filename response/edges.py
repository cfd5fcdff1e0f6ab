"""Whom workloads talked to lately, as edges.v1 says, and which of them a plan cuts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Lock

from response.prove import PeerStatus, RecentPeer
from schemas.edge import HOUR, Edge
from schemas.policy.addresses import span_of_address
from schemas.policy.cluster import ClusterView, Pod, Service
from schemas.policy.evaluator import READINGS, Flow, evaluate
from schemas.policy.networkpolicy import PROTOCOLS

# About 400 bytes each; a hundred workloads with a hundred peers on ten nodes in 24 hours are a quarter of it.
MOST_EDGES = 1 << 18
# Addresses of one peer that are tried, and rows of a proof.
_MOST_ADDRESSES = 8
MOST_ROWS = 50


@dataclass(frozen=True, slots=True)
class Talk:
    """What a workload and a peer exchanged in all of the time that is remembered; `bytes` both ways."""

    peer: str
    protocol: str
    port: int
    initiated: bool
    flows: int
    bytes: int
    hour: int


class EdgeMemory:
    """The edges of some hours, by workload. Repeats of an edge change nothing: its greatest counts hold.

    Args:
        cluster: whose edges count; empty: any.
        hours: that are remembered, back from the latest.
    """

    def __init__(self, cluster: str = "", hours: int = 24) -> None:
        self._cluster = cluster
        self._hours = hours
        self._edges: dict[tuple[str, str], dict[tuple[str, str, int, bool, int, str], tuple[int, int]]] = {}
        self._count = 0
        self._latest = 0
        self._lock = Lock()  # a topic is read in one thread while plans are made in another
        self.dropped = 0

    def __len__(self) -> int:
        return self._count

    def take(self, edge: Edge) -> None:
        """Take in an edge; what is older than the hours remembered is passed over."""
        with self._lock:
            self._take(edge)

    def _take(self, edge: Edge) -> None:
        if (self._cluster and edge.cluster != self._cluster) or edge.hour <= self._latest - self._hours * HOUR:
            return
        if edge.hour > self._latest:
            self._latest = edge.hour
            self._forget(self._latest - self._hours * HOUR)
        own = self._edges.setdefault((edge.namespace, edge.workload), {})
        name = (edge.peer, edge.protocol, edge.port, edge.initiated, edge.hour, edge.node)
        before = own.get(name)
        if before is None:
            if self._count >= MOST_EDGES:
                self.dropped += 1
                return
            self._count += 1
        flows, carried = before or (0, 0)
        own[name] = max(flows, edge.flows), max(carried, edge.bytes_sent + edge.bytes_received)

    def _forget(self, until: int) -> None:
        """Let go of hours up to one."""
        for owner in list(self._edges):
            kept = {name: counts for name, counts in self._edges[owner].items() if name[4] > until}
            self._count -= len(self._edges[owner]) - len(kept)
            if kept:
                self._edges[owner] = kept
            else:
                del self._edges[owner]

    def of(self, namespace: str, workload: str) -> tuple[Talk, ...]:
        """Whom a workload talked to, the most bytes first."""
        sums: dict[tuple[str, str, int, bool], tuple[int, int, int]] = {}
        with self._lock:
            own = list(self._edges.get((namespace, workload), {}).items())
        for (peer, protocol, port, initiated, hour, _), (flows, carried) in own:
            known = sums.get((peer, protocol, port, initiated), (0, 0, 0))
            sums[peer, protocol, port, initiated] = (known[0] + flows, known[1] + carried, max(known[2], hour))
        found = (Talk(*name, *counts) for name, counts in sums.items())
        return tuple(sorted(found, key=lambda talk: (-talk.bytes, talk.peer, talk.protocol, talk.port, talk.initiated)))


def recent_peers(
    memory: EdgeMemory, pods: Iterable[str], before: ClusterView, after: ClusterView
) -> tuple[RecentPeer, ...]:
    """What becomes of everyone whom the workloads of some pods talked to lately, the most bytes first."""
    owners: dict[tuple[str, str], Pod] = {}
    for pod in filter(None, map(before.pod, pods)):
        owners.setdefault((pod.namespace, workload_of(pod)), pod)
    rows = [
        RecentPeer(
            what=f"{namespace}/{workload} {'→' if talk.initiated else '←'} {talk.peer} {talk.protocol}/{talk.port}",
            bytes=talk.bytes,
            flows=talk.flows,
            status=_status(pod, talk, before, after),
        )
        for (namespace, workload), pod in sorted(owners.items())
        for talk in memory.of(namespace, workload)
    ]  # fmt: skip
    return tuple(sorted(rows, key=lambda row: (row.status != "cut", -row.bytes, row.what))[:MOST_ROWS])


def workload_of(pod: Pod) -> str:
    """`Kind/name` of a pod's workload as edges name it: a pod without owner is one itself."""
    return pod.workload or f"Pod/{pod.name}"


def pods_of(peer: str, view: ClusterView) -> tuple[Pod, ...]:
    """The pods that a peer of an edge is now: of a workload, or behind a Service; none for addresses and nodes."""
    namespace, _, workload = peer.partition("/")
    kind, _, name = workload.partition("/")
    if kind == "Service":
        service = service_of(namespace, name, view)
        if service is None or not service.selector:
            return ()
        wanted = service.selector.items()
        return tuple(p for p in view.pods if p.namespace == namespace and wanted <= dict(p.labels).items())
    return tuple(pod for pod in view.pods if pod.namespace == namespace and workload_of(pod) == workload)


def service_of(namespace: str, name: str, view: ClusterView) -> Service | None:
    """The Service of a name, or none."""
    return next((item for item in view.services if (item.namespace, item.name) == (namespace, name)), None)


def target_of(talk: Talk, view: ClusterView) -> int | str | None:
    """The port of the pods that an edge leads to; none for a Service that has no such port any more."""
    namespace, _, workload = talk.peer.partition("/")
    if not workload.startswith("Service/"):
        return talk.port
    service = service_of(namespace, workload.removeprefix("Service/"), view)
    forwards = service.forwards if service is not None else ()
    return next((f.target for f in forwards if (f.protocol, f.port) == (talk.protocol, talk.port)), None)


def places_of(talk: Talk, view: ClusterView) -> tuple[tuple[str, int], ...] | None:
    """Present addresses and ports of an edge's peer, at most eight; none where no policy can name them (a node)."""
    if "/" not in talk.peer:
        return ((talk.peer, talk.port),)
    if talk.peer.startswith("Node/"):
        return None
    target = target_of(talk, view)
    found = (
        (ip, number)
        for pod in pods_of(talk.peer, view)
        for ip in pod.ips
        for number in _numbers(target, talk.protocol, pod)
    )
    return tuple(place for place, _ in zip(found, range(_MOST_ADDRESSES), strict=False))


def _numbers(target: int | str | None, protocol: str, pod: Pod) -> tuple[int, ...]:
    if isinstance(target, str):
        return tuple(port.number for port in pod.ports if (port.name, port.protocol) == (target, protocol))
    return () if target is None else (target,)


def _status(pod: Pod, talk: Talk, before: ClusterView, after: ClusterView) -> PeerStatus:
    places = places_of(talk, before)
    flows = list(_flows(pod, talk, places or ()))
    if not flows:
        return "unjudged" if places is None or talk.protocol not in PROTOCOLS else "gone"
    open_before = [flow for flow in flows if any(evaluate(before, flow, reading).allowed for reading in READINGS)]
    if not open_before:
        return "closed"
    kept = all(
        evaluate(after, flow, reading).allowed
        for flow in open_before for reading in READINGS if evaluate(before, flow, reading).allowed
    )  # fmt: skip
    return "kept" if kept else "cut"


def _flows(pod: Pod, talk: Talk, places: Iterable[tuple[str, int]]) -> Iterator[Flow]:
    for own in pod.ips:
        for other, port in places:
            if span_of_address(own).family == span_of_address(other).family and talk.protocol in PROTOCOLS:
                ends = (own, other) if talk.initiated else (other, own)
                yield Flow(*ends, talk.protocol, port)
