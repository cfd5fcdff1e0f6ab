"""NetworkPolicy v1 as typed values, read from API objects.

Defaults and refusals follow the API's own type documentation and validation (networking.k8s.io/v1). Unknown fields are
ignored, but a peer of which nothing is known is refused: it may allow anything, so no proof could stand on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import (
    BeforeValidator,
    Field,
    StrictInt,
    StrictStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from schemas.policy.addresses import Span, span_of_cidr
from schemas.policy.labels import MAX_ITEMS, ApiModel, LabelSelector, none_to_dict, none_to_list
from schemas.policy.layers import Block, Clause, Peers, Pods, PortRange
from schemas.policy.ports import ALL_PORTS, PortSet
from schemas.policy.words import DIRECTIONS as DIRECTIONS
from schemas.policy.words import PROTOCOLS as PROTOCOLS
from schemas.policy.words import Dialect, Transport
from schemas.policy.words import Direction as Direction

if TYPE_CHECKING:
    from schemas.policy.cluster import ClusterView, Pod

Protocol = Transport
PortNumber = Annotated[StrictInt, Field(ge=1, le=65535)]
# An IANA service name: the API's rule for named ports.
PortName = Annotated[StrictStr, StringConstraints(min_length=1, max_length=15, pattern=r"^[-a-z0-9]*[a-z][-a-z0-9]*$")]
ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=253)]
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class PolicyError(ValueError):
    """A policy that cannot be read with certainty; the message is one line naming object and field."""


class IPBlock(ApiModel):
    """`cidr` without the blocks in `except`."""

    cidr: str = Field(max_length=64, description="addresses")
    excluded: Annotated[tuple[str, ...], BeforeValidator(none_to_list)] = Field(
        default=(), alias="except", max_length=MAX_ITEMS, description="CIDRs inside it that are left out"
    )

    @field_validator("cidr", "excluded")
    @classmethod
    def _is_cidr(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for text in (value,) if isinstance(value, str) else value:
            span_of_cidr(text)
        return value

    def spans(self) -> tuple[Span, tuple[Span, ...]]:
        """The covered span and the spans cut out of it."""
        return span_of_cidr(self.cidr), tuple(span_of_cidr(text) for text in self.excluded)


class Peer(ApiModel):
    """Either an address block, or pods chosen by pod labels, namespace labels, or both at once."""

    pod_selector: LabelSelector | None = Field(None, description="pods, by their labels")
    namespace_selector: LabelSelector | None = Field(None, description="their namespace; absent: the policy's own")
    ip_block: IPBlock | None = Field(default=None, alias="ipBlock", description="addresses instead of pods")

    @model_validator(mode="after")
    def _one_kind(self) -> Peer:
        selects = self.pod_selector is not None or self.namespace_selector is not None
        if selects == (self.ip_block is not None):
            message = "a peer is either an ipBlock or a podSelector and/or namespaceSelector"
            raise ValueError(message)
        return self

    def peers(self, home: str) -> Peers:
        """Whom it means in a policy of the namespace `home`."""
        if self.ip_block is not None:
            return Block(*self.ip_block.spans())

        def chosen(view: ClusterView, pod: Pod) -> bool:
            if self.namespace_selector is None:
                in_namespace = pod.namespace == home
            else:
                in_namespace = self.namespace_selector.matches(view.namespace_labels(pod.namespace))
            return in_namespace and (self.pod_selector is None or self.pod_selector.matches(pod.labels))

        return Pods(chosen)


class Port(ApiModel):
    """One port, a range `port`..`end_port`, or (without `port`) every port of the protocol."""

    protocol: Annotated[Protocol, BeforeValidator(lambda value: "TCP" if value is None else value)] = Field(
        "TCP", description="transport"
    )
    port: PortNumber | PortName | None = Field(None, description="number, or name of a container port; absent: all")
    end_port: PortNumber | None = Field(None, description="last of a range that begins at port")

    @model_validator(mode="after")
    def _range_is_numeric(self) -> Port:
        if self.end_port is not None and (not isinstance(self.port, int) or self.end_port < self.port):
            message = "endPort needs a numeric port that is not above it"
            raise ValueError(message)
        return self

    def ports(self) -> PortRange:
        """The same as numbers, or as a name to be looked up."""
        if self.port is None:
            return PortRange((self.protocol,), ALL_PORTS)
        if isinstance(self.port, str):
            return PortRange((self.protocol,), name=self.port)
        return PortRange((self.protocol,), PortSet(((self.port, self.end_port or self.port),)))


class Rule(ApiModel):
    """What one rule allows: traffic matching any peer (none given: all peers) and any port (none given: all)."""

    peers: Annotated[tuple[Peer, ...], BeforeValidator(none_to_list)] = ()
    ports: Annotated[tuple[Port, ...], BeforeValidator(none_to_list)] = Field(
        default=(), max_length=MAX_ITEMS, description="ports that it allows; none: all"
    )

    def clause(self, policy: str, home: str) -> Clause:
        """The rule in a policy of some name, in the namespace `home`."""
        peers = tuple(peer.peers(home) for peer in self.peers) or None
        return Clause(policy, "allow", peers, tuple(port.ports() for port in self.ports) or None)


class IngressRule(Rule):
    """A rule whose peers are sources."""

    peers: Annotated[tuple[Peer, ...], BeforeValidator(none_to_list)] = Field(
        default=(), alias="from", max_length=MAX_ITEMS, description="sources that it allows; none: all"
    )


class EgressRule(Rule):
    """A rule whose peers are destinations."""

    peers: Annotated[tuple[Peer, ...], BeforeValidator(none_to_list)] = Field(
        default=(), alias="to", max_length=MAX_ITEMS, description="destinations that it allows; none: all"
    )


class PolicySpec(ApiModel):
    """The `spec` of a NetworkPolicy."""

    pod_selector: Annotated[LabelSelector, BeforeValidator(none_to_dict)] = Field(
        default_factory=LabelSelector, description="pods of its namespace that it isolates; empty: all"
    )
    ingress: Annotated[tuple[IngressRule, ...], BeforeValidator(none_to_list)] = Field(
        default=(), max_length=MAX_ITEMS, description="what it allows in"
    )
    egress: Annotated[tuple[EgressRule, ...], BeforeValidator(none_to_list)] = Field(
        default=(), max_length=MAX_ITEMS, description="what it allows out"
    )
    policy_types: Annotated[tuple[Direction, ...], BeforeValidator(none_to_list)] = Field(
        default=(), max_length=len(DIRECTIONS), description="directions in which it isolates; none: as the rules say"
    )


class ObjectMeta(ApiModel):
    """The part of an object's metadata that decisions use."""

    name: ObjectName
    namespace: Annotated[str, StringConstraints(max_length=253)] = "default"
    labels: Annotated[dict[str, str], BeforeValidator(none_to_dict)] = Field(default_factory=dict)
    annotations: Annotated[dict[str, str], BeforeValidator(none_to_dict)] = Field(default_factory=dict)
    uid: Annotated[str, StringConstraints(max_length=128)] = ""


class PolicyObject(ApiModel):
    """An object of some dialect that has a say in what is allowed: a policy, or what policies refer to.

    Whoever only refers to it selects nothing and has no clauses.
    """

    dialect: ClassVar[Dialect]
    kind: ClassVar[str]

    metadata: ObjectMeta

    @property
    def key(self) -> str:
        """`Kind namespace/name`, or `Kind name` for an object of the whole cluster."""
        space = f"{self.metadata.namespace}/" if self.metadata.namespace else ""
        return f"{self.kind} {space}{self.metadata.name}"

    def selects(self, view: ClusterView, pod: Pod) -> bool:
        """Whether it applies to a pod at all."""
        return False

    def directions(self) -> tuple[Direction, ...]:
        """The directions in which it has a say on the pods that it selects."""
        return ()

    def clauses(self, direction: Direction) -> tuple[Clause, ...]:
        """Its rules for a direction, in their order."""
        return ()

    def spans(self) -> Iterable[Span]:
        """The address ranges that it mentions."""
        return self._spans

    @cached_property
    def _spans(self) -> tuple[Span, ...]:
        # A proof asks every policy of the cluster, and most of them stay as they are for weeks.
        clauses = (clause for direction in DIRECTIONS for clause in self.clauses(direction))
        return tuple(span for clause in clauses for peers in clause.peers or () for span in peers.spans())


class NetworkPolicy(PolicyObject):
    """One NetworkPolicy object."""

    dialect: ClassVar[Dialect] = "networkpolicy"
    kind: ClassVar[str] = "NetworkPolicy"

    spec: Annotated[PolicySpec, BeforeValidator(none_to_dict)] = Field(default_factory=PolicySpec)

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    def selects(self, view: ClusterView, pod: Pod) -> bool:
        """Whether the pod is of its namespace and has its labels."""
        return pod.namespace == self.metadata.namespace and self.spec.pod_selector.matches(pod.labels)

    def directions(self) -> tuple[Direction, ...]:
        """Directions this policy isolates: as listed; unlisted, Ingress, and Egress if it has an egress rule."""
        if self.spec.policy_types:
            return self.spec.policy_types
        return ("Ingress", "Egress") if self.spec.egress else ("Ingress",)

    def rules(self, direction: Direction) -> tuple[Rule, ...]:
        """The rules written for a direction; they only have effect if `directions()` names it."""
        return self.spec.ingress if direction == "Ingress" else self.spec.egress

    def clauses(self, direction: Direction) -> tuple[Clause, ...]:
        """Its rules as clauses, each of which allows; the same objects whenever it is asked."""
        return self._clauses[direction]

    @cached_property
    def _clauses(self) -> dict[Direction, tuple[Clause, ...]]:
        home = self.metadata.namespace
        return {way: tuple(rule.clause(self.key, home) for rule in self.rules(way)) for way in DIRECTIONS}


def read_policy(document: Mapping[str, Any]) -> NetworkPolicy:
    """A NetworkPolicy from an API object; raises PolicyError."""
    try:
        return NetworkPolicy.model_validate(document)
    except ValidationError as error:
        raise policy_error(NetworkPolicy.kind, document, error) from None


def policy_error(kind: str, document: Mapping[str, Any], error: ValidationError) -> PolicyError:
    """What is wrong with an object, as one line: kind, name, field and complaint."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    metadata = document.get("metadata") if isinstance(document, Mapping) else None
    meta = metadata if isinstance(metadata, Mapping) else {}
    name = f"{meta.get('namespace', 'default')}/{meta.get('name', '?')}"
    complaint = "this field is not evaluated" if first["type"] == "extra_forbidden" else first["msg"]
    return PolicyError(_CONTROL.sub("?", f"{kind} {name[:300]}: {place}: {complaint}"[:500]))
