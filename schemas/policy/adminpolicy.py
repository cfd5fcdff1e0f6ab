"""Policies of administrators over whole clusters (policy.networking.k8s.io).

Two generations say nearly the same: ClusterNetworkPolicy (v1alpha2, v1beta1) has a tier, AdminNetworkPolicy and
BaselineAdminNetworkPolicy (v1alpha1) are one kind for each tier. Both come down to tiers of rules in order of priority.
Peers that need what a view does not know (labels of nodes, domain names) refuse the policy.
"""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from schemas.policy.addresses import span_of_cidr
from schemas.policy.labels import LabelSelector, none_to_list
from schemas.policy.layers import Block, Clause, Peers, Pods, PortRange, Stage
from schemas.policy.networkpolicy import PolicyObject, PortNumber
from schemas.policy.ports import PortSet
from schemas.policy.strict import ClusterMeta, StrictModel, check_cidr
from schemas.policy.words import DIRECTIONS, PROTOCOLS, Dialect, Direction, Transport, Word

if TYPE_CHECKING:
    from schemas.policy.cluster import ClusterView, Pod

Tier = Literal["Admin", "Baseline"]
TIERS: tuple[Tier, ...] = ("Admin", "Baseline")
_WORDS: dict[str, Word] = {"Accept": "allow", "Allow": "allow", "Deny": "deny", "Pass": "pass"}


class _PodPeer(StrictModel):
    namespace_selector: LabelSelector = Field(default_factory=LabelSelector)
    pod_selector: LabelSelector


class _Choice(StrictModel):
    """Pods by namespace, or by namespace and labels; exactly one of both."""

    namespaces: LabelSelector | None = None
    pods: _PodPeer | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> _Choice:
        if len(self.model_fields_set & set(type(self).model_fields)) != 1:
            message = "exactly one kind of peer is needed"
            raise ValueError(message)
        return self

    def chooses(self, view: ClusterView, pod: Pod) -> bool:
        """Whether a pod is meant."""
        space = view.namespace_labels(pod.namespace)
        if self.namespaces is not None:
            return self.namespaces.matches(space)
        chosen = self.pods
        return (
            chosen is not None and chosen.namespace_selector.matches(space) and chosen.pod_selector.matches(pod.labels)
        )

    def peers(self) -> tuple[Peers, ...]:
        """The same as peers of a clause."""
        return (Pods(self.chooses),)


class _EgressChoice(_Choice):
    """The same, or blocks of addresses; such a block covers the addresses of pods too."""

    networks: tuple[Annotated[str, Field(max_length=64), AfterValidator(check_cidr)], ...] = Field((), max_length=25)

    def peers(self) -> tuple[Peers, ...]:
        if self.networks:
            return tuple(Block(span_of_cidr(text), everyone=True) for text in self.networks)
        return super().peers()


class _Range(StrictModel):
    start: PortNumber
    end: PortNumber
    protocol: Transport = "TCP"


class _Number(StrictModel):
    port: PortNumber
    protocol: Transport = "TCP"


class _AdminPort(StrictModel):
    """A port of v1alpha1: a number, a range, or a name of whichever transport."""

    port_number: _Number | None = None
    port_range: _Range | None = None
    named_port: Annotated[str, Field(max_length=63)] | None = None

    def ports(self) -> PortRange:
        if self.port_number is not None:
            number = self.port_number
            return PortRange((number.protocol,), PortSet(((number.port, number.port),)))
        if self.port_range is not None:
            return PortRange((self.port_range.protocol,), PortSet.of([(self.port_range.start, self.port_range.end)]))
        return PortRange(PROTOCOLS, name=self.named_port or "")

    @model_validator(mode="after")
    def _one_kind(self) -> _AdminPort:
        if sum(item is not None for item in (self.port_number, self.port_range, self.named_port)) != 1:
            message = "exactly one kind of port is needed"
            raise ValueError(message)
        return self


class _Span(StrictModel):
    start: PortNumber
    end: PortNumber


class _DestinationPort(StrictModel):
    number: PortNumber | None = None
    range: _Span | None = None

    def numbers(self) -> PortSet:
        if self.number is not None:
            return PortSet(((self.number, self.number),))
        return PortSet.of([(self.range.start, self.range.end)]) if self.range is not None else PortSet()


class _Transport(StrictModel):
    destination_port: _DestinationPort


class _Protocol(StrictModel):
    """Ports of a ClusterNetworkPolicy: of one transport, or a name of whichever."""

    tcp: _Transport | None = None
    udp: _Transport | None = None
    sctp: _Transport | None = None
    destination_named_port: Annotated[str, Field(max_length=63)] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> _Protocol:
        if sum(item is not None for item in (self.tcp, self.udp, self.sctp, self.destination_named_port)) != 1:
            message = "exactly one protocol is needed"
            raise ValueError(message)
        return self

    def ports(self) -> PortRange:
        known: tuple[tuple[Transport, _Transport | None], ...] = (
            ("TCP", self.tcp), ("UDP", self.udp), ("SCTP", self.sctp),
        )  # fmt: skip
        for transport, item in known:
            if item is not None:
                return PortRange((transport,), item.destination_port.numbers())
        return PortRange(PROTOCOLS, name=self.destination_named_port or "")


class _Rule(StrictModel):
    name: str = ""
    action: Literal["Accept", "Allow", "Deny", "Pass"]
    ports: Annotated[tuple[_AdminPort, ...], BeforeValidator(none_to_list)] = Field((), max_length=100)
    protocols: Annotated[tuple[_Protocol, ...], BeforeValidator(none_to_list)] = Field((), max_length=100)

    def choices(self) -> tuple[_Choice, ...]:
        """Whom the rule is about."""
        return ()

    def clause(self, policy: str) -> Clause:
        """The rule in a policy of some name."""
        peers = tuple(peers for choice in self.choices() for peers in choice.peers())
        ports = (*(item.ports() for item in self.ports), *(item.ports() for item in self.protocols))
        return Clause(policy, _WORDS[self.action], peers, ports or None)


class _IngressRule(_Rule):
    sources: tuple[_Choice, ...] = Field(alias="from", min_length=1, max_length=100)

    def choices(self) -> tuple[_Choice, ...]:
        return self.sources


class _EgressRule(_Rule):
    to: tuple[_EgressChoice, ...] = Field(min_length=1, max_length=100)

    def choices(self) -> tuple[_Choice, ...]:
        return self.to


class _Spec(StrictModel):
    tier: Tier | None = None
    priority: Annotated[int, Field(ge=0, le=1000)] = 0
    subject: _Choice
    ingress: Annotated[tuple[_IngressRule, ...], BeforeValidator(none_to_list)] = Field((), max_length=100)
    egress: Annotated[tuple[_EgressRule, ...], BeforeValidator(none_to_list)] = Field((), max_length=100)


class TieredPolicy(PolicyObject):
    """What all three kinds are."""

    tier: ClassVar[Tier | None] = None

    metadata: ClusterMeta
    spec: _Spec

    def in_tier(self) -> Tier:
        """The tier in which it is asked."""
        return self.tier or self.spec.tier or "Admin"

    def selects(self, view: ClusterView, pod: Pod) -> bool:
        """Whether it applies to a pod."""
        return not pod.host_network and self.spec.subject.chooses(view, pod)

    def directions(self) -> tuple[Direction, ...]:
        """The directions of which it speaks."""
        named: tuple[tuple[Direction, Any], ...] = (("Ingress", self.spec.ingress), ("Egress", self.spec.egress))
        return tuple(direction for direction, rules in named if rules)

    def clauses(self, direction: Direction) -> tuple[Clause, ...]:
        """Its rules for a direction, in their order."""
        rules: tuple[_Rule, ...] = self.spec.ingress if direction == "Ingress" else self.spec.egress
        return tuple(rule.clause(self.key) for rule in rules)


class ClusterNetworkPolicy(TieredPolicy):
    """v1alpha2 and v1beta1; they differ in nothing that is read here."""

    dialect: ClassVar[Dialect] = "clusternetworkpolicy"
    kind: ClassVar[str] = "ClusterNetworkPolicy"


class AdminNetworkPolicy(TieredPolicy):
    """v1alpha1: asked before NetworkPolicies."""

    dialect: ClassVar[Dialect] = "adminnetworkpolicy"
    kind: ClassVar[str] = "AdminNetworkPolicy"
    tier: ClassVar[Tier | None] = "Admin"


class BaselineAdminNetworkPolicy(TieredPolicy):
    """v1alpha1: asked where no NetworkPolicy applies; there is one in a cluster."""

    dialect: ClassVar[Dialect] = "adminnetworkpolicy"
    kind: ClassVar[str] = "BaselineAdminNetworkPolicy"
    tier: ClassVar[Tier | None] = "Baseline"


def stages(view: ClusterView, pod: Pod, direction: Direction, tier: Tier) -> tuple[Stage, ...]:
    """One tier as a stage, if any policy in it applies to a pod: rules by priority, and no word on the rest."""
    applying = sorted(_applying(view, pod, direction, tier), key=lambda policy: (policy.spec.priority, policy.key))
    clauses = tuple(clause for policy in applying for clause in policy.clauses(direction))
    return (Stage(clauses, "pass"),) if clauses else ()


def ties(view: ClusterView, pod: Pod) -> tuple[str, ...]:
    """Policies whose order on a pod nobody can tell: equal tier and priority, and different words."""
    found: list[str] = []
    for direction, tier in product(DIRECTIONS, TIERS):
        applying = _applying(view, pod, direction, tier)
        counts = Counter(policy.spec.priority for policy in applying)
        for priority in sorted(priority for priority, count in counts.items() if count > 1):
            tied = [policy for policy in applying if policy.spec.priority == priority]
            if len({clause.word for policy in tied for clause in policy.clauses(direction)}) > 1:
                found.append(
                    f"{', '.join(item.key for item in tied)}: equal priority {priority}, so their order is open"
                )
    return tuple(dict.fromkeys(found))


def _applying(view: ClusterView, pod: Pod, direction: Direction, tier: Tier) -> list[TieredPolicy]:
    return [
        item
        for item in view.objects_of("adminnetworkpolicy", "clusternetworkpolicy")
        if isinstance(item, TieredPolicy)
        and item.in_tier() == tier
        and direction in item.directions()
        and item.selects(view, pod)
    ]
