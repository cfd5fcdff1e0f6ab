"""What every dialect of policy comes down to: stages of clauses that are asked in order, port by port.

A clause allows, denies or passes what it matches; the first clause of a stage that matches has the word. What no clause
matches gets the stage's own word, and what is passed goes on to the next stage. After the last stage the rest is
allowed: no policy spoke of it. Tiers, priorities, "deny wins" and "isolated by default" are all orders of stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from schemas.policy.addresses import Span
from schemas.policy.ports import ALL_PORTS, NO_PORTS, PortSet
from schemas.policy.words import PROTOCOLS, IpBlockReading, Transport, Word

if TYPE_CHECKING:
    from schemas.policy.cluster import ClusterView, Pod


@dataclass(frozen=True, slots=True)
class PeerPoint:
    """The other end as a policy sees it: an address range, and the pod that has it, where one does."""

    span: Span
    pod: Pod | None


class Peers(Protocol):
    """Some peers that a clause names."""

    def covers(self, view: ClusterView, point: PeerPoint, reading: IpBlockReading) -> bool:
        """Whether a point is among them. Its span must not straddle an edge of `spans`."""
        ...

    def spans(self) -> Iterable[Span]:
        """The address ranges at whose edges the answer may change."""
        ...


@dataclass(frozen=True, slots=True)
class Block:
    """Addresses, without some of them; with `everyone`, those of pods and nodes count whatever the reading."""

    covered: Span
    holes: tuple[Span, ...] = ()
    everyone: bool = False

    def covers(self, view: ClusterView, point: PeerPoint, reading: IpBlockReading) -> bool:
        """Whether an address range lies in the block, and is of a kind that the reading lets blocks cover."""
        if not self.everyone:
            if point.pod is not None and reading != "every":
                return False
            if reading == "world" and point.span in view.node_addresses:
                return False
        return self.covered.covers(point.span) and not any(hole.covers(point.span) for hole in self.holes)

    def spans(self) -> Iterable[Span]:
        """The block and its holes."""
        return (self.covered, *self.holes)


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods that a selector of any language chooses; host-network pods are their node and never among them."""

    chosen: Callable[[ClusterView, Pod], bool]

    def covers(self, view: ClusterView, point: PeerPoint, reading: IpBlockReading) -> bool:
        """Whether the point is a pod that is chosen."""
        return point.pod is not None and self.chosen(view, point.pod)

    def spans(self) -> Iterable[Span]:
        """None: pods are told apart by what they are."""
        return ()


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports of some transports: numbers, or the name of a port of the destination pod (`numbers` is empty then)."""

    transports: tuple[Transport, ...]
    numbers: PortSet = ALL_PORTS
    name: str = ""

    def of(self, transport: Transport, destination: Pod | None) -> PortSet:
        """The numbers for one transport; a name means nothing where the destination is no pod."""
        if transport not in self.transports:
            return NO_PORTS
        if not self.name:
            return self.numbers
        named = destination.ports if destination is not None else ()
        return PortSet.of((p.number, p.number) for p in named if p.name == self.name and p.protocol == transport)


@dataclass(frozen=True, slots=True)
class Clause:
    """One rule: its word for traffic with any of the peers (None: everyone) on any of the ports (None: every port)."""

    policy: str
    word: Word
    peers: tuple[Peers, ...] | None = None
    ports: tuple[PortRange, ...] | None = None

    def covers(self, view: ClusterView, point: PeerPoint, reading: IpBlockReading) -> bool:
        """Whether the rule speaks of a peer, on whichever port."""
        return self.peers is None or any(peers.covers(view, point, reading) for peers in self.peers)

    def port_set(self, transport: Transport, destination: Pod | None) -> PortSet:
        """The ports of which the rule speaks."""
        if self.ports is None:
            return ALL_PORTS
        total = NO_PORTS
        for item in self.ports:
            total |= item.of(transport, destination)
        return total


@dataclass(frozen=True, slots=True)
class Stage:
    """Clauses in order, and the word on what none of them matches.

    `policies` are named where that word decides; `transports` are those that the stage speaks of at all.
    """

    clauses: tuple[Clause, ...]
    otherwise: Word
    policies: tuple[str, ...] = ()
    transports: tuple[Transport, ...] = PROTOCOLS


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages that one enforcer asks for one pod in one direction, and how it reads blocks of addresses."""

    enforcer: str
    stages: tuple[Stage, ...]
    readings: tuple[tuple[IpBlockReading, IpBlockReading], ...] = ()

    def at(self, view: ClusterView, point: PeerPoint, reading: IpBlockReading) -> PipelineAt:
        """The clauses that speak of one peer."""
        own = dict(self.readings).get(reading, reading)
        return PipelineAt(
            tuple(
                (stage, tuple(clause for clause in stage.clauses if clause.covers(view, point, own)))
                for stage in self.stages
            )
        )


@dataclass(frozen=True, slots=True)
class Ruling:
    """Why one port is open or closed: `allow` or `deny` with the policies that say so, or `pass` if none spoke."""

    word: Literal["allow", "deny", "pass"]
    policies: tuple[str, ...]
    explicit: bool


@dataclass(frozen=True, slots=True)
class PipelineAt:
    """The clauses of a pipeline that speak of one peer, by stage."""

    stages: tuple[tuple[Stage, tuple[Clause, ...]], ...]

    def ports(self, transport: Transport, destination: Pod | None) -> PortSet:
        """The ports of a transport that are open to this peer: the exact set."""
        allowed, undecided = NO_PORTS, ALL_PORTS
        for stage, clauses in self.stages:
            if transport not in stage.transports:
                continue
            passed = NO_PORTS
            for clause in clauses:
                hit = clause.port_set(transport, destination) & undecided
                if clause.word == "allow":
                    allowed |= hit
                elif clause.word == "pass":
                    passed |= hit
                undecided -= hit
            if stage.otherwise == "allow":
                allowed |= undecided
            undecided = passed | undecided if stage.otherwise == "pass" else passed
        return allowed | undecided

    def rule(self, transport: Transport, port: int, destination: Pod | None) -> Ruling:
        """The word on one port, and whose it is."""
        for stage, clauses in self.stages:
            if transport not in stage.transports:
                continue
            found = next((c for c in clauses if port in c.port_set(transport, destination)), None)
            word = found.word if found is not None else stage.otherwise
            if word != "pass":
                return Ruling(word, (found.policy,) if found is not None else stage.policies, found is not None)
        return Ruling("pass", (), explicit=False)
