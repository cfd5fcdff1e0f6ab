"""Whether the policies of a cluster allow one connection, and which policy says so.

The rules, in the words of the NetworkPolicy API: a pod is isolated in a direction by every policy that selects it and
names that direction; an isolated pod has what any of these policies allows, and nothing else; a connection needs the
source's egress and the destination's ingress. docs/policy-evaluation.md lists the cases and the assumptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.policy.addresses import Span, span_of_address
from schemas.policy.cluster import ClusterView, Pod
from schemas.policy.networkpolicy import PROTOCOLS, Direction, NetworkPolicy, Peer, Port, Protocol, Rule
from schemas.policy.ports import ALL_PORTS, NO_PORTS, PortSet

# Whether an ipBlock also covers pods' own addresses: the API leaves it open. kube-router and Calico say yes ("every"),
# Cilium says no ("outside").
IpBlockReading = Literal["every", "outside"]
READINGS: tuple[IpBlockReading, ...] = ("every", "outside")


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection from its initiator to its responder, addresses as the enforcer sees them (after DNAT)."""

    source: str
    destination: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class Side:
    """One direction's word on a flow.

    `because` is `policy` (named in `policies`: the one that allows, or all that isolate), `not-isolated`, `not-a-pod`,
    `own-node`, `own-pod`, or `protocol-not-covered`.
    """

    direction: Direction
    allowed: bool
    because: str
    policies: tuple[str, ...] = ()

    def text(self) -> str:
        """The same in a few words."""
        if self.because != "policy":
            return f"{self.direction.lower()} allowed: {self.because.replace('-', ' ')}"
        named = ", ".join(self.policies)
        verb = "allowed by" if self.allowed else "isolated by"
        return f"{self.direction.lower()} {verb} {named}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Both sides' word; the connection needs both."""

    egress: Side
    ingress: Side

    @property
    def allowed(self) -> bool:
        """Whether the connection can be opened."""
        return self.egress.allowed and self.ingress.allowed

    def text(self) -> str:
        """Why, in one line."""
        sides = (self.egress, self.ingress)
        return "; ".join(side.text() for side in sides if side.allowed == self.allowed)


@dataclass(frozen=True, slots=True)
class PeerPoint:
    """The other end as a policy sees it: an address range, and the pod that has it, where one does."""

    span: Span
    pod: Pod | None


def peer_matches(
    view: ClusterView, policy: NetworkPolicy, peer: Peer, point: PeerPoint, reading: IpBlockReading
) -> bool:
    """Whether a rule's peer covers a point. The point's span must not straddle an edge of the peer's block."""
    if peer.ip_block is not None:
        if point.pod is not None and reading == "outside":
            return False
        covered, holes = peer.ip_block.spans()
        return covered.covers(point.span) and not any(hole.covers(point.span) for hole in holes)
    pod = point.pod
    if pod is None:
        return False
    if peer.namespace_selector is None:
        in_namespace = pod.namespace == policy.metadata.namespace
    else:
        in_namespace = peer.namespace_selector.matches(view.namespace_labels(pod.namespace))
    return in_namespace and (peer.pod_selector is None or peer.pod_selector.matches(pod.labels))


def ports_of(rule: Rule, protocol: Protocol, destination: Pod | None) -> PortSet:
    """The ports a rule allows; names are looked up on the destination pod and match nothing without one."""
    if not rule.ports:
        return ALL_PORTS
    allowed = NO_PORTS
    for port in rule.ports:
        if port.protocol == protocol:
            allowed |= _port_numbers(port, destination)
    return allowed


def _port_numbers(port: Port, destination: Pod | None) -> PortSet:
    if port.port is None:
        return ALL_PORTS
    if isinstance(port.port, int):
        return PortSet(((port.port, port.end_port or port.port),))
    named = destination.ports if destination is not None else ()
    return PortSet.of(
        (item.number, item.number) for item in named if item.name == port.port and item.protocol == port.protocol
    )


def always_allowed(subject: Pod, point: PeerPoint) -> str:
    """The reason why no policy can stop a pod and a peer from talking (`own-pod`, `own-node`), or the empty text."""
    if any(span_of_address(text).covers(point.span) for text in subject.ips):
        return "own-pod"
    if point.pod is None and any(span_of_address(text).covers(point.span) for text in subject.node_ips):
        return "own-node"
    return ""


def _side(
    view: ClusterView, subject: Pod, direction: Direction, point: PeerPoint, flow: Flow, reading: IpBlockReading
) -> Side:
    isolating = view.policies_on(subject, direction)
    if not isolating:
        return Side(direction, allowed=True, because="not-isolated")
    exempt = always_allowed(subject, point)
    if exempt:
        return Side(direction, allowed=True, because=exempt)
    protocol = next((known for known in PROTOCOLS if known == flow.protocol), None)
    if protocol is None:
        return Side(direction, allowed=True, because="protocol-not-covered")
    destination = subject if direction == "Ingress" else point.pod
    for policy in isolating:
        for rule in policy.rules(direction):
            if flow.port in ports_of(rule, protocol, destination) and (
                not rule.peers or any(peer_matches(view, policy, peer, point, reading) for peer in rule.peers)
            ):
                return Side(direction, allowed=True, because="policy", policies=(policy.key,))
    return Side(direction, allowed=False, because="policy", policies=tuple(item.key for item in isolating))


def evaluate(view: ClusterView, flow: Flow, reading: IpBlockReading = "every") -> Verdict:
    """The verdict on one flow. Raises ValueError for an address that is none.

    Where several pods claim an address, the connection counts as allowed if it is for any of them: a claim that
    something is blocked must hold for all.
    """
    source, destination = span_of_address(flow.source), span_of_address(flow.destination)
    sources: tuple[Pod | None, ...] = view.pods_at(source) or (None,)
    destinations: tuple[Pod | None, ...] = view.pods_at(destination) or (None,)
    verdicts = [
        Verdict(
            _side_or_outside(view, here, "Egress", PeerPoint(destination, there), flow, reading),
            _side_or_outside(view, there, "Ingress", PeerPoint(source, here), flow, reading),
        )
        for here in sources
        for there in destinations
    ]
    return next((verdict for verdict in verdicts if verdict.allowed), verdicts[0])


def _side_or_outside(
    view: ClusterView,
    subject: Pod | None,
    direction: Direction,
    point: PeerPoint,
    flow: Flow,
    reading: IpBlockReading,
) -> Side:
    if subject is None:
        return Side(direction, allowed=True, because="not-a-pod")
    return _side(view, subject, direction, point, flow, reading)
