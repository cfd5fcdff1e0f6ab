"""Everything that policies allow a pod in one direction, as an exact set, and whether one such set holds another.

The address space is cut at every address and block edge that any policy or pod mentions. Within one cell no policy can
tell two addresses apart, so a finite table of cells (times pod identity, times protocol) with port intervals is the
whole truth about all 2^32 + 2^128 addresses, not a sample of it. It holds for every dialect, because each comes down to
stages of clauses (`schemas/policy/layers.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from schemas.policy.addresses import Span, cut_space
from schemas.policy.cluster import ClusterView, Pod
from schemas.policy.evaluator import always_allowed
from schemas.policy.layers import Block, PeerPoint, PipelineAt, Pods
from schemas.policy.networkpolicy import DIRECTIONS, PROTOCOLS, Direction, PolicyObject, Protocol
from schemas.policy.pipelines import pipelines
from schemas.policy.ports import ALL_PORTS, NO_PORTS, PortSet
from schemas.policy.words import IpBlockReading


@dataclass(frozen=True, slots=True)
class Cell:
    """Addresses that no policy tells apart; `pod` is the key of the pod that has the (then single) address."""

    span: Span
    pod: str | None


@dataclass(frozen=True, slots=True)
class Widening:
    """A counterexample: something allowed after that was not allowed before."""

    subject: str
    direction: Direction
    peer: str
    protocol: Protocol
    port: int

    def text(self) -> str:
        """The same as a sentence."""
        way = "from" if self.direction == "Ingress" else "to"
        return f"{self.subject} would newly be allowed {self.protocol}/{self.port} {way} {self.peer}"


def cells_of(*views: ClusterView) -> tuple[Cell, ...]:
    """The cells common to some views; an address that several pods claim gives one cell for each."""
    spans: set[Span] = set()
    keys: dict[Span, set[str]] = {}
    # Views of one cluster share most of what is in them.
    for pods in {id(view.pods_by_address): view.pods_by_address for view in views}.values():
        for address, there in pods.items():
            keys.setdefault(address, set()).update(pod.key for pod in there)
    for policy in {id(policy): policy for view in views for policy in _objects(view)}.values():
        spans.update(policy.spans())
    spans.update(keys, *(view.node_addresses for view in views))
    cells: list[Cell] = []
    for span in cut_space(spans):
        owners = sorted(keys.get(span, ()))
        cells += [Cell(span, key) for key in owners] or [Cell(span, None)]
    return tuple(cells)


def _objects(view: ClusterView) -> tuple[PolicyObject, ...]:
    return (*view.policies, *view.objects)


_EVERYTHING: Mapping[Protocol, PortSet] = dict.fromkeys(PROTOCOLS, ALL_PORTS)


class Allowance:
    """What one pod is allowed in one direction, to be asked cell by cell."""

    def __init__(self, view: ClusterView, subject: Pod, direction: Direction, reading: IpBlockReading) -> None:
        self._view = view
        self._subject = subject
        self._ingress = direction == "Ingress"
        self._reading = reading
        self.pipelines = pipelines(view, subject, direction)
        # Most peers are named by the same clauses, and then get the same ports.
        self._known: dict[tuple[object, ...], Mapping[Protocol, PortSet]] = {}

    def ports(self, cell: Cell) -> Mapping[Protocol, PortSet]:
        """The allowed ports per protocol with one cell; every protocol is a key."""
        if not self.pipelines:
            return _EVERYTHING
        pod = self._view.pod(cell.pod) if cell.pod is not None else None
        point = PeerPoint(cell.span, pod)
        if always_allowed(self._subject, point):
            return _EVERYTHING
        destination = self._subject if self._ingress else pod
        here = tuple(line.at(self._view, point, self._reading) for line in self.pipelines)
        # Of the destination only the names of its ports have a say.
        clauses = (tuple(map(id, clauses)) for line in here for _, clauses in line.stages)
        asked = (destination.ports if destination is not None else (), *clauses)
        found = self._known.get(asked)
        if found is None:
            found = self._known[asked] = _ports(here, destination)
        return found

    def same_for(self, other: Allowance) -> bool:
        """Whether two allowances of one pod can differ only where a peer itself does."""
        here, there = self._view, other._view
        return (
            self.pipelines == other.pipelines
            and self._subject == other._subject
            and here.namespaces == there.namespaces
            and here.objects == there.objects
            and here.node_addresses == there.node_addresses
        )


def _ports(asked: tuple[PipelineAt, ...], destination: Pod | None) -> Mapping[Protocol, PortSet]:
    total = dict(_EVERYTHING)
    for here in asked:
        for protocol in PROTOCOLS:
            total[protocol] &= here.ports(protocol, destination)
    return total


def pair_ports(view: ClusterView, source: Span, destination: Span, reading: IpBlockReading) -> dict[Protocol, PortSet]:
    """The ports per protocol on which one address can open connections to another: both sides' word.

    Where several pods claim an address it is enough that one of them is allowed.
    """
    total = dict.fromkeys(PROTOCOLS, NO_PORTS)
    for here in view.pods_at(source) or (None,):
        for there in view.pods_at(destination) or (None,):
            out, into = _EVERYTHING, _EVERYTHING
            if here is not None:
                cell = Cell(destination, there.key if there else None)
                out = Allowance(view, here, "Egress", reading).ports(cell)
            if there is not None:
                cell = Cell(source, here.key if here else None)
                into = Allowance(view, there, "Ingress", reading).ports(cell)
            for protocol in PROTOCOLS:
                total[protocol] |= out[protocol] & into[protocol]
    return total


def changed_subjects(before: ClusterView, after: ClusterView) -> tuple[str, ...]:
    """Keys of the pods whose allowed sets can differ between two views, in order.

    These are the pods that changed themselves, and those selected by a policy that changed or whose peers match a
    changed pod or namespace differently. What policies only refer to (tiers, sets of addresses) may concern every pod.
    """
    old, new = ({policy.key: policy for policy in _objects(view)} for view in (before, after))
    changed = {key for key in old.keys() | new.keys() if _differ(old.get(key), new.get(key))}
    everyone = before.in_force != after.in_force or any(not (old.get(key) or new[key]).directions() for key in changed)
    touched = {pod.key for pod in after.pods if everyone or _differ(before.pod(pod.key), pod)}
    touched |= {pod.key for pod in before.pods if after.pod(pod.key) is None}
    moved = before.namespaces != after.namespaces or any(_moved(before, after, key) for key in touched)
    for policy in new.values():
        if moved or any(_matched_otherwise(before, after, policy, key) for key in touched):
            changed.add(policy.key)
    for view, objects in ((before, old), (after, new)):
        policies = [objects[key] for key in sorted(changed & objects.keys())]
        for pod in view.pods if policies else ():
            if pod.key not in touched and any(policy.selects(view, pod) for policy in policies):
                touched.add(pod.key)
    return tuple(sorted(touched))


def _differ(one: object, other: object) -> bool:
    # Views of one cluster share most of what is in them, and to compare a policy with itself is not free.
    return one is not other and one != other


def _moved(before: ClusterView, after: ClusterView, key: str) -> bool:
    """Whether more than a pod's labels changed."""
    old, new = before.pod(key), after.pod(key)
    return old is None or new is None or replace(old, labels={}) != replace(new, labels={})


def _matched_otherwise(before: ClusterView, after: ClusterView, policy: PolicyObject, key: str) -> bool:
    """Whether any peer of a policy matches one of a relabelled pod's two sets of labels and not the other."""
    old, new = before.pod(key), after.pod(key)
    if old is None or new is None:
        return True
    if old.labels == new.labels:
        return False
    for direction in DIRECTIONS:
        for clause in policy.clauses(direction):
            for peers in clause.peers or ():
                if isinstance(peers, Block):
                    continue
                # Whatever is neither addresses nor a plain choice of pods may look at their labels as well.
                if not isinstance(peers, Pods) or peers.chosen(before, old) != peers.chosen(after, new):
                    return True
    return False


def find_widening(before: ClusterView, after: ClusterView, reading: IpBlockReading = "every") -> Widening | None:
    """The first thing that `after` allows some pod in some direction and `before` does not, or none.

    None is a proof for all pods known to either view and all addresses: allowed-after is a subset of allowed-before,
    for each pod and direction by itself (which is stronger than for each connection).
    """
    return widening_of(Step(before, after), reading)


@dataclass(frozen=True)
class Step:
    """From one view to another: what every question about the two begins with, found once."""

    before: ClusterView
    after: ClusterView

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """See `cells_of`."""
        return cells_of(self.before, self.after)

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """See `changed_subjects`."""
        return changed_subjects(self.before, self.after)


def widening_of(step: Step, reading: IpBlockReading = "every") -> Widening | None:
    """The same as `find_widening`, of a step that is asked about more than once."""
    for key in step.subjects:
        for direction in DIRECTIONS:
            found = _widening_of(step, key, direction, reading)
            if found is not None:
                return found
    return None


def _widening_of(step: Step, key: str, direction: Direction, reading: IpBlockReading) -> Widening | None:
    before, after = step.before, step.after
    old, new = before.pod(key), after.pod(key)
    # A pod that was not there had nothing that could widen.
    if old is None or new is None:
        return None
    was, becomes = Allowance(before, old, direction, reading), Allowance(after, new, direction, reading)
    if not was.pipelines:
        # It was allowed everything.
        return None
    for cell in step.cells:
        had, has = was.ports(cell), becomes.ports(cell)
        for protocol in PROTOCOLS:
            gained = has[protocol] - had[protocol]
            if gained:
                peer = f"{cell.pod} ({cell.span.address()})" if cell.pod else cell.span.address()
                return Widening(key, direction, peer, protocol, gained.example())
    return None


def cut_peers(
    before: ClusterView, after: ClusterView, key: str, direction: Direction, reading: IpBlockReading
) -> tuple[str, ...]:
    """Keys of pods with which a pod loses at least one port of what it was allowed, in order."""
    old, new = before.pod(key), after.pod(key)
    if old is None or new is None:
        return ()
    was, becomes = Allowance(before, old, direction, reading), Allowance(after, new, direction, reading)
    lost: set[str] = set()
    if not becomes.pipelines:
        return ()
    alike = was.same_for(becomes)
    for address, there in before.pods_by_address.items():
        for peer in there:
            if alike and not _differ(peer, after.pod(peer.key)):
                continue
            cell = Cell(address, peer.key)
            had, has = was.ports(cell), becomes.ports(cell)
            if had is not has and any(had[protocol] - has[protocol] for protocol in PROTOCOLS):
                lost.add(peer.key)
    return tuple(sorted(lost))
