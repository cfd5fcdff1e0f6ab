"""Whether the policies of a cluster allow one connection, and which policy says so.

A connection needs the source's egress and the destination's ingress, from every enforcer that the cluster has. What
each of them asks in which order is in `pipelines.py`, how an order of stages decides in `layers.py`.
docs/policy-evaluation.md lists the cases and the assumptions.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.policy.addresses import span_of_address
from schemas.policy.cluster import ClusterView, Pod
from schemas.policy.layers import PeerPoint
from schemas.policy.networkpolicy import Rule
from schemas.policy.pipelines import pipelines
from schemas.policy.ports import PortSet
from schemas.policy.words import PROTOCOLS, Direction, Transport
from schemas.policy.words import READINGS as READINGS
from schemas.policy.words import IpBlockReading as IpBlockReading


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

    `because` is `policy` (named in `policies`: those that allow, or all that isolate), `denied` (by the one named),
    `not-isolated`, `not-a-pod`, `own-node`, `own-pod`, or `protocol-not-covered`.
    """

    direction: Direction
    allowed: bool
    because: str
    policies: tuple[str, ...] = ()

    def text(self) -> str:
        """The same in a few words."""
        if self.because not in ("policy", "denied"):
            return f"{self.direction.lower()} allowed: {self.because.replace('-', ' ')}"
        named = ", ".join(self.policies)
        verb = "denied by" if self.because == "denied" else "allowed by" if self.allowed else "isolated by"
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


def ports_of(rule: Rule, protocol: Transport, destination: Pod | None) -> PortSet:
    """The ports that a rule of a NetworkPolicy allows; names mean nothing without a destination pod."""
    return rule.clause("", "").port_set(protocol, destination)


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
    asked = pipelines(view, subject, direction)
    if not asked:
        return Side(direction, allowed=True, because="not-isolated")
    exempt = always_allowed(subject, point)
    if exempt:
        return Side(direction, allowed=True, because=exempt)
    protocol = next((known for known in PROTOCOLS if known == flow.protocol), None)
    if protocol is None:
        return Side(direction, allowed=True, because="protocol-not-covered")
    destination = subject if direction == "Ingress" else point.pod
    rulings = [line.at(view, point, reading).rule(protocol, flow.port, destination) for line in asked]
    ruling = next((item for item in rulings if item.word == "deny"), None)
    if ruling is not None:
        because = "denied" if ruling.explicit else "policy"
        return Side(direction, allowed=False, because=because, policies=ruling.policies)
    named = tuple(name for item in rulings for name in item.policies)
    return Side(direction, allowed=True, because="policy" if named else "not-isolated", policies=named)


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
