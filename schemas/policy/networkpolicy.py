"""NetworkPolicy v1 as typed values, read from API objects.

Defaults and refusals follow the API's own type documentation and validation (networking.k8s.io/v1). Unknown fields are
ignored, but a peer of which nothing is known is refused: it may allow anything, so no proof could stand on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

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

Direction = Literal["Ingress", "Egress"]
Protocol = Literal["TCP", "UDP", "SCTP"]
DIRECTIONS: tuple[Direction, ...] = ("Ingress", "Egress")
PROTOCOLS: tuple[Protocol, ...] = ("TCP", "UDP", "SCTP")
PortNumber = Annotated[StrictInt, Field(ge=1, le=65535)]
# An IANA service name: the API's rule for named ports.
PortName = Annotated[StrictStr, StringConstraints(min_length=1, max_length=15, pattern=r"^[-a-z0-9]*[a-z][-a-z0-9]*$")]
ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=253)]
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class PolicyError(ValueError):
    """A NetworkPolicy that cannot be read with certainty; the message is one line naming object and field."""


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


class Rule(ApiModel):
    """What one rule allows: traffic matching any peer (none given: all peers) and any port (none given: all)."""

    peers: Annotated[tuple[Peer, ...], BeforeValidator(none_to_list)] = ()
    ports: Annotated[tuple[Port, ...], BeforeValidator(none_to_list)] = Field(
        default=(), max_length=MAX_ITEMS, description="ports that it allows; none: all"
    )


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
    namespace: ObjectName = "default"
    labels: Annotated[dict[str, str], BeforeValidator(none_to_dict)] = Field(default_factory=dict)
    annotations: Annotated[dict[str, str], BeforeValidator(none_to_dict)] = Field(default_factory=dict)


class NetworkPolicy(ApiModel):
    """One NetworkPolicy object."""

    metadata: ObjectMeta
    spec: Annotated[PolicySpec, BeforeValidator(none_to_dict)] = Field(default_factory=PolicySpec)

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    def directions(self) -> tuple[Direction, ...]:
        """Directions this policy isolates: as listed; unlisted, Ingress, and Egress if it has an egress rule."""
        if self.spec.policy_types:
            return self.spec.policy_types
        return ("Ingress", "Egress") if self.spec.egress else ("Ingress",)

    def rules(self, direction: Direction) -> tuple[Rule, ...]:
        """The rules written for a direction; they only have effect if `directions()` names it."""
        return self.spec.ingress if direction == "Ingress" else self.spec.egress


def read_policy(document: Mapping[str, Any]) -> NetworkPolicy:
    """A NetworkPolicy from an API object; raises PolicyError."""
    try:
        return NetworkPolicy.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        metadata = document.get("metadata") if isinstance(document, Mapping) else None
        meta = metadata if isinstance(metadata, Mapping) else {}
        name = f"{meta.get('namespace', 'default')}/{meta.get('name', '?')}"
        message = _CONTROL.sub("?", f"NetworkPolicy {name[:300]}: {place}: {first['msg']}")
        raise PolicyError(message) from None
