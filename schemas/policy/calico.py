"""Calico's policies (projectcalico.org/v3, and crd.projectcalico.org/v1, which stores the same).

Tiers are asked by their order, the policies of a tier by theirs, and the first rule that matches has the word; a tier
of which a policy applies, but no rule matches, has its default action. Kubernetes NetworkPolicies are policies of order
1000 in the tier `default`. What needs more than a view knows (service accounts, Services, HTTP, source ports) refuses
the policy. Host endpoints are not known: a selector never matches a node's address.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from schemas.policy import adminpolicy
from schemas.policy.addresses import Span, span_of_cidr
from schemas.policy.calico_selector import selector
from schemas.policy.labels import MAX_ITEMS, ApiModel, none_to_dict, none_to_list
from schemas.policy.layers import Clause, PeerPoint, Pipeline, PortRange, Stage
from schemas.policy.networkpolicy import ObjectMeta, PolicyObject
from schemas.policy.ports import ALL_PORTS, PortSet
from schemas.policy.strict import ClusterMeta, StrictModel, check_cidr
from schemas.policy.words import PROTOCOLS, Dialect, Direction, IpBlockReading, Transport, Word

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from schemas.policy.cluster import ClusterView, Pod

DEFAULT_TIER = "default"
# The orders that Calico gives the tiers which it makes itself.
DEFAULT_TIER_ORDER = 1_000_000.0
ADMIN_TIER_ORDER = 1_000.0
BASELINE_TIER_ORDER = 10_000_000.0
NETWORKPOLICY_ORDER = 1_000.0
_UNKNOWN_KEYS = ("pcsa.", "projectcalico.org/serviceaccount")
_NUMBERS: dict[int, Transport] = {6: "TCP", 17: "UDP", 132: "SCTP"}
_WORDS: dict[str, Word] = {"Allow": "allow", "Deny": "deny", "Pass": "pass"}


def _check_selector(text: str) -> str:
    for key in selector(text).keys:
        if key.startswith(_UNKNOWN_KEYS):
            message = f"a selector of the label {key!r}, which belongs to service accounts, is not evaluated"
            raise ValueError(message)
    return text


def _ports(value: Any) -> Any:
    """A port as a number, a range `a:b` or a name, as intervals or a name."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        message = "a port is a number, a range or a name"
        raise ValueError(message)
    low, colon, high = str(value).partition(":")
    if not low.isascii() or not low.isdigit():
        return str(value)
    if colon and not (high.isascii() and high.isdigit()):
        message = f"{value!r} is no range of ports"
        raise ValueError(message)
    first, last = int(low), int(high or low)
    if not 0 <= first <= last <= 65535:
        message = f"{value!r} is no range of ports"
        raise ValueError(message)
    return (first, last)


Net = Annotated[str, Field(max_length=64), AfterValidator(check_cidr)]
Nets = Annotated[tuple[Net, ...], BeforeValidator(none_to_list), Field(max_length=MAX_ITEMS)]
Expression = Annotated[str, AfterValidator(_check_selector)]
PortItem = Annotated[tuple[int, int] | str, BeforeValidator(_ports)]
PortItems = Annotated[tuple[PortItem, ...], BeforeValidator(none_to_list), Field(max_length=MAX_ITEMS)]


class _Entity(StrictModel):
    """The end of a rule that is not the pod itself."""

    nets: Nets = ()
    not_nets: Nets = ()
    selector: Expression = ""
    not_selector: Expression = ""
    namespace_selector: Expression = ""

    def speaks(self) -> bool:
        """Whether it narrows the rule at all."""
        return bool(self.nets or self.not_nets or self.selector or self.not_selector or self.namespace_selector)


class _Ports(StrictModel):
    ports: PortItems = ()
    not_ports: PortItems = ()


class _PeerWithPorts(_Entity, _Ports):
    pass


class _Nothing(StrictModel):
    """The end that is the pod itself: a rule that narrows it further is not evaluated."""


@dataclass(frozen=True, slots=True)
class _Peers:
    """The peers of a rule of a policy in a namespace (empty: of the cluster)."""

    entity: _Entity
    home: str
    family: int | None

    def covers(self, view: ClusterView, point: PeerPoint, reading: IpBlockReading) -> bool:
        entity, span = self.entity, point.span
        if self.family is not None and span.family != self.family:
            return False
        if entity.nets and not any(span_of_cidr(text).covers(span) for text in entity.nets):
            return False
        if any(span_of_cidr(text).covers(span) for text in entity.not_nets):
            return False
        if (entity.selector or entity.namespace_selector) and not self._chosen(view, point, entity.selector):
            return False
        return not (entity.not_selector and self._chosen(view, point, entity.not_selector))

    def _chosen(self, view: ClusterView, point: PeerPoint, text: str) -> bool:
        wanted = selector(text)
        pod = point.pod
        if pod is not None and self._in_scope(view, pod.namespace) and wanted.matches(pod_labels(view, pod)):
            return True
        return any(
            item.holds(point.span) and wanted.matches(item.labels())
            for item in view.objects_of("calico")
            if isinstance(item, NetworkSet) and self._in_scope(view, item.metadata.namespace)
        )

    def _in_scope(self, view: ClusterView, namespace: str) -> bool:
        """Whether a selector looks at things of a namespace; the empty one is that of global network sets."""
        spaces = self.entity.namespace_selector
        if not spaces:
            return not self.home or namespace == self.home
        wanted = selector(spaces)
        if not namespace:
            return wanted.names_global
        return wanted.matches({**view.namespace_labels(namespace), "projectcalico.org/name": namespace})

    def spans(self) -> Iterable[Span]:
        families = [Span(4, 0, 2**32 - 1), Span(6, 0, 2**128 - 1)]
        return (*families, *(span_of_cidr(text) for text in (*self.entity.nets, *self.entity.not_nets)))


class _Rule(StrictModel):
    action: Literal["Allow", "Deny", "Pass", "Log"]
    ip_version: Annotated[Literal[4, 6] | None, Field(alias="ipVersion")] = None
    protocol: str | int | None = None
    not_protocol: str | int | None = None
    icmp: Any = None
    not_icmp: Annotated[Any, Field(alias="notICMP")] = None
    metadata: Any = None

    @abstractmethod
    def ends(self) -> tuple[_Entity, _Ports]:
        """The peer, and the ports."""

    def clause(self, policy: str, home: str) -> Clause | None:
        """The rule in a policy; None for one that only writes to a log."""
        if self.action == "Log":
            return None
        entity, ports = self.ends()
        peers = (_Peers(entity, home, self.ip_version),) if entity.speaks() or self.ip_version is not None else None
        return Clause(policy, _WORDS[self.action], peers, self._port_ranges(ports))

    def _transports(self) -> tuple[Transport, ...]:
        wanted = PROTOCOLS if self.protocol is None else _transports(self.protocol)
        unwanted = () if self.not_protocol is None else _transports(self.not_protocol)
        return tuple(item for item in wanted if item not in unwanted)

    def _port_ranges(self, ports: _Ports) -> tuple[PortRange, ...] | None:
        transports = self._transports()
        if not ports.ports and not ports.not_ports:
            return None if transports == PROTOCOLS else (PortRange(transports, ALL_PORTS),)
        left = PortSet.of(item for item in ports.not_ports if isinstance(item, tuple))
        if not ports.ports:
            return (PortRange(transports, ALL_PORTS - left),)
        numbers = PortSet.of(item for item in ports.ports if isinstance(item, tuple)) - left
        return (
            PortRange(transports, numbers),
            *(PortRange(transports, name=item) for item in ports.ports if isinstance(item, str)),
        )

    @model_validator(mode="after")
    def _evaluable(self) -> _Rule:
        _, ports = self.ends()
        if any(isinstance(item, str) for item in ports.not_ports) or (
            ports.not_ports and any(isinstance(item, str) for item in ports.ports)
        ):
            message = "named ports in or beside notPorts are not evaluated"
            raise ValueError(message)
        return self


def _transports(protocol: str | int) -> tuple[Transport, ...]:
    number = int(protocol) if isinstance(protocol, int) or protocol.isdigit() else None
    if number is not None:
        return (_NUMBERS[number],) if number in _NUMBERS else ()
    return tuple(item for item in PROTOCOLS if item == str(protocol).upper())


class _IngressRule(_Rule):
    source: Annotated[_Entity, BeforeValidator(none_to_dict)] = _Entity()
    destination: Annotated[_Ports, BeforeValidator(none_to_dict)] = _Ports()

    def ends(self) -> tuple[_Entity, _Ports]:
        return self.source, self.destination


class _EgressRule(_Rule):
    source: Annotated[_Nothing, BeforeValidator(none_to_dict)] = _Nothing()
    destination: Annotated[_PeerWithPorts, BeforeValidator(none_to_dict)] = _PeerWithPorts()

    def ends(self) -> tuple[_Entity, _Ports]:
        return self.destination, self.destination


class _Spec(StrictModel):
    tier: str = DEFAULT_TIER
    order: float | None = None
    selector: Expression = ""
    namespace_selector: Expression = ""
    types: Annotated[tuple[Direction, ...], BeforeValidator(none_to_list)] = ()
    ingress: Annotated[tuple[_IngressRule, ...], BeforeValidator(none_to_list)] = Field((), max_length=MAX_ITEMS)
    egress: Annotated[tuple[_EgressRule, ...], BeforeValidator(none_to_list)] = Field((), max_length=MAX_ITEMS)
    # Hints to the data plane, and marks of policies of hosts: only their harmless values are evaluated.
    performance_hints: Any = None
    apply_on_forward: bool = False
    do_not_track: Literal[False] = False
    pre_dnat: Annotated[Literal[False], Field(alias="preDNAT")] = False


class CalicoPolicy(PolicyObject):
    """What both kinds are."""

    dialect: ClassVar[Dialect] = "calico"

    spec: _Spec

    @property
    def order(self) -> float:
        """Where it is asked within its tier; without an order last."""
        return inf if self.spec.order is None else self.spec.order

    def selects(self, view: ClusterView, pod: Pod) -> bool:
        """Whether it applies to a pod."""
        home = self.metadata.namespace
        if pod.host_network or (home and pod.namespace != home):
            return False
        spaces = {**view.namespace_labels(pod.namespace), "projectcalico.org/name": pod.namespace}
        return selector(self.spec.selector).matches(pod_labels(view, pod)) and (
            not self.spec.namespace_selector or selector(self.spec.namespace_selector).matches(spaces)
        )

    def directions(self) -> tuple[Direction, ...]:
        """The directions of which it speaks."""
        if self.spec.types:
            return self.spec.types
        if self.spec.egress:
            return ("Ingress", "Egress") if self.spec.ingress else ("Egress",)
        return ("Ingress",)

    def clauses(self, direction: Direction) -> tuple[Clause, ...]:
        """Its rules for a direction, in their order."""
        rules: tuple[_Rule, ...] = self.spec.ingress if direction == "Ingress" else self.spec.egress
        made = (rule.clause(self.key, self.metadata.namespace) for rule in rules)
        return tuple(clause for clause in made if clause is not None)


class CalicoNetworkPolicy(CalicoPolicy):
    """A policy of one namespace."""

    kind: ClassVar[str] = "Calico NetworkPolicy"


class GlobalNetworkPolicy(CalicoPolicy):
    """A policy of the whole cluster."""

    kind: ClassVar[str] = "GlobalNetworkPolicy"

    metadata: ClusterMeta


class _TierSpec(ApiModel):
    order: float | None = None
    default_action: Literal["Deny", "Pass"] = "Deny"


class Tier(PolicyObject):
    """A tier: when it is asked, and its word where its policies say nothing."""

    dialect: ClassVar[Dialect] = "calico"
    kind: ClassVar[str] = "Tier"

    metadata: ClusterMeta
    spec: Annotated[_TierSpec, BeforeValidator(none_to_dict)] = _TierSpec()

    @property
    def order(self) -> float:
        """Where it is asked; without an order last."""
        return inf if self.spec.order is None else self.spec.order


class _SetSpec(StrictModel):
    nets: Nets = ()


class NetworkSet(PolicyObject):
    """Addresses with labels, which selectors match like those of pods."""

    dialect: ClassVar[Dialect] = "calico"
    kind: ClassVar[str] = "NetworkSet"

    metadata: ObjectMeta
    spec: Annotated[_SetSpec, BeforeValidator(none_to_dict)] = _SetSpec()

    def labels(self) -> Mapping[str, str]:
        """Its labels, as a selector sees them."""
        namespace = self.metadata.namespace
        return {**self.metadata.labels, **({"projectcalico.org/namespace": namespace} if namespace else {})}

    def holds(self, span: Span) -> bool:
        """Whether a range lies in one of its blocks."""
        return any(covered.covers(span) for covered in self.spans())

    def spans(self) -> tuple[Span, ...]:
        """Its blocks."""
        return tuple(span_of_cidr(text) for text in self.spec.nets)


class GlobalNetworkSet(NetworkSet):
    """The same, for all namespaces."""

    kind: ClassVar[str] = "GlobalNetworkSet"

    metadata: ClusterMeta


def pod_labels(view: ClusterView, pod: Pod) -> Mapping[str, str]:
    """A pod's labels as Calico sees them: its own, its namespace's name, and its namespace's labels by a prefix."""
    spaces = {f"pcns.{key}": value for key, value in view.namespace_labels(pod.namespace).items()}
    named = {"projectcalico.org/namespace": pod.namespace, "projectcalico.org/orchestrator": "k8s"}
    return {**spaces, **pod.labels, **named}


def tiers(view: ClusterView) -> dict[str, tuple[float, Word]]:
    """Order and default word of each tier; that of `default` is known even where it is not listed."""
    found: dict[str, tuple[float, Word]] = {DEFAULT_TIER: (DEFAULT_TIER_ORDER, "deny")}
    for item in view.objects_of("calico"):
        if isinstance(item, Tier):
            found[item.metadata.name] = (item.order, "pass" if item.spec.default_action == "Pass" else "deny")
    return found


def orphans(view: ClusterView, pod: Pod) -> tuple[str, ...]:
    """Policies that apply to a pod in a tier that does not exist: when they are asked, nobody can tell."""
    known = tiers(view)
    return tuple(
        f"{item.key}: its tier {item.spec.tier!r} does not exist"
        for item in view.objects_of("calico")
        if isinstance(item, CalicoPolicy) and item.spec.tier not in known and item.selects(view, pod)
    )


def pipeline(view: ClusterView, pod: Pod, direction: Direction) -> Pipeline:
    """The tiers of which a policy applies to a pod, in their order."""
    made: list[tuple[float, str, Stage]] = []
    for name, (order, otherwise) in tiers(view).items():
        applying = _applying(view, pod, direction, name)
        if applying:
            clauses = tuple(clause for _, _, policy in applying for clause in policy.clauses(direction))
            keys = tuple(policy.key for _, _, policy in applying)
            made.append((order, name, Stage(clauses, otherwise, keys)))
    made += [(ADMIN_TIER_ORDER, "", stage) for stage in adminpolicy.stages(view, pod, direction, "Admin")]
    made += [(BASELINE_TIER_ORDER, "", stage) for stage in adminpolicy.stages(view, pod, direction, "Baseline")]
    ordered = tuple(stage for _, _, stage in sorted(made, key=lambda item: item[:2]))
    return Pipeline("calico", ordered, (("outside", "every"),))


def _applying(view: ClusterView, pod: Pod, direction: Direction, tier: str) -> list[tuple[float, str, PolicyObject]]:
    found: list[tuple[float, str, PolicyObject]] = [
        (item.order, item.key, item)
        for item in view.objects_of("calico")
        if isinstance(item, CalicoPolicy)
        and item.spec.tier == tier
        and direction in item.directions()
        and item.selects(view, pod)
    ]
    if tier == DEFAULT_TIER:
        found += [(NETWORKPOLICY_ORDER, item.key, item) for item in view.policies_on(pod, direction)]
    return sorted(found, key=lambda item: item[:2])
