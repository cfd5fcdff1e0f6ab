"""Cilium's policies (cilium.io/v2): rules that allow and rules that deny, of which denying ones always win.

A policy isolates a pod in the directions of which it has any rule, denying ones included, unless `enableDefaultDeny`
says otherwise. Kubernetes NetworkPolicies are more rules that allow. Selectors see the pod's labels and those of its
namespace under names of Cilium's own; blocks of addresses mean hosts outside the cluster. What depends on more than a
view knows (domain names, layer 7, groups, Services, the API server's addresses) refuses the policy.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from schemas.policy.addresses import Span, span_of_cidr
from schemas.policy.labels import MAX_ITEMS, LabelSelector, none_to_dict, none_to_list
from schemas.policy.layers import Block, Clause, PeerPoint, Peers, Pods, PortRange, Stage
from schemas.policy.networkpolicy import PolicyObject
from schemas.policy.ports import ALL_PORTS, PortSet
from schemas.policy.strict import ClusterMeta, StrictModel, check_cidr
from schemas.policy.words import PROTOCOLS, Dialect, Direction, IpBlockReading, Word

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from schemas.policy.cluster import ClusterView, Pod

NAMESPACE_KEY = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels."
_SOURCES = ("k8s:", "any:")
_POLICY_KEYS = "io.cilium.k8s.policy."
_WHOLE = (Span(4, 0, 2**32 - 1), Span(6, 0, 2**128 - 1))
# `host` is the pod's own node, with which it may always talk; `none` is nobody.
Entity = Literal["all", "world", "world-ipv4", "world-ipv6", "cluster", "host", "remote-node", "none"]


def _known_labels(value: Any) -> Any:
    """A selector with bare label names; labels that a view does not know refuse it."""
    if not isinstance(value, dict):
        return value
    made = dict(value)
    if isinstance(value.get("matchLabels"), dict):
        made["matchLabels"] = {_checked(key): item for key, item in value["matchLabels"].items()}
    if isinstance(value.get("matchExpressions"), list):
        made["matchExpressions"] = [
            {**item, "key": _checked(str(item.get("key", "")))} if isinstance(item, dict) else item
            for item in value["matchExpressions"]
        ]
    return made


def _checked(key: str) -> str:
    bare = key
    for source in _SOURCES:
        bare = bare.removeprefix(source)
    # What is left of a colon is a source of labels that are not a pod's.
    if ":" in bare or bare.startswith(_POLICY_KEYS):
        message = f"a selector of {key!r} is not evaluated"
        raise ValueError(message)
    return bare


EndpointSelector = Annotated[LabelSelector, BeforeValidator(_known_labels)]
Cidr = Annotated[str, Field(max_length=64), AfterValidator(check_cidr)]


class _CidrRule(StrictModel):
    cidr: Cidr
    excluded: Annotated[tuple[Cidr, ...], BeforeValidator(none_to_list)] = Field(
        (), alias="except", max_length=MAX_ITEMS
    )


class _PortProtocol(StrictModel):
    port: str = Field("0", max_length=63)
    end_port: Annotated[int, Field(ge=0, le=65535)] = 0
    protocol: str = "ANY"

    def ports(self) -> PortRange:
        """Numbers or a name; 0 is every port, and a transport that is not evaluated none."""
        wanted = self.protocol.upper()
        transports = tuple(item for item in PROTOCOLS if wanted in ("ANY", "", item))
        if not self.port.isdigit():
            return PortRange(transports, name=self.port)
        number = int(self.port)
        return PortRange(transports, PortSet.of([(number, self.end_port or number)]) if number else ALL_PORTS)

    @model_validator(mode="after")
    def _range_is_numeric(self) -> _PortProtocol:
        number = int(self.port) if self.port.isascii() and self.port.isdigit() else None
        if (number or 0) > 65535 or (self.end_port and (number is None or self.end_port < number)):
            message = "port is no number of a port, or endPort is below it"
            raise ValueError(message)
        return self


class _PortRule(StrictModel):
    ports: Annotated[tuple[_PortProtocol, ...], BeforeValidator(none_to_list)] = Field((), max_length=MAX_ITEMS)


class _Rule(StrictModel):
    """Any of the peers and any of the ports; a list that is there and empty means nobody, an absent one nothing."""

    to_ports: tuple[_PortRule, ...] | None = Field(None, max_length=MAX_ITEMS)
    icmps: Any = None

    @abstractmethod
    def ends(self) -> _Ends:
        """The lists of peers."""

    def clause(self, policy: str, word: Word, home: str) -> Clause | None:
        """The rule in a policy of a namespace (empty: of the cluster); None if it matches no traffic at all."""
        ends = self.ends()
        lists = (ends.endpoints, ends.cidrs, ends.cidr_sets, ends.entities)
        if any(item is not None and not item for item in lists):
            return None
        peers = tuple(ends.peers(home))
        ports = tuple(port.ports() for rule in self.to_ports or () for port in rule.ports)
        # A rule of nothing matches nothing, and one of ICMP alone nothing that is evaluated.
        if not ports and (self.to_ports or self.icmps or not peers):
            return None
        return Clause(policy, word, peers or None, ports or None)


@dataclass(frozen=True, slots=True)
class _Ends:
    endpoints: tuple[LabelSelector, ...] | None
    cidrs: tuple[str, ...] | None
    cidr_sets: tuple[_CidrRule, ...] | None
    entities: tuple[Entity, ...] | None

    def peers(self, home: str) -> Iterable[Peers]:
        for chosen in self.endpoints or ():
            yield _pods(chosen, home)
        for text in self.cidrs or ():
            yield Block(span_of_cidr(text))
        for rule in self.cidr_sets or ():
            yield Block(span_of_cidr(rule.cidr), tuple(span_of_cidr(text) for text in rule.excluded))
        for entity in self.entities or ():
            yield _EntityPeers(entity)


def _pods(wanted: LabelSelector, home: str) -> Pods:
    """Pods of the policy's namespace, unless the selector names namespaces itself."""

    def chosen(view: ClusterView, pod: Pod) -> bool:
        if home and not _names_namespaces(wanted) and pod.namespace != home:
            return False
        return wanted.matches(endpoint_labels(view, pod))

    return Pods(chosen)


def _names_namespaces(wanted: LabelSelector) -> bool:
    keys = (*wanted.match_labels, *(item.key for item in wanted.match_expressions))
    return any(key == NAMESPACE_KEY or key.startswith(NAMESPACE_LABELS) for key in keys)


def endpoint_labels(view: ClusterView, pod: Pod) -> Mapping[str, str]:
    """A pod's labels as Cilium sees them."""
    spaces = {f"{NAMESPACE_LABELS}{key}": value for key, value in view.namespace_labels(pod.namespace).items()}
    return {**pod.labels, **spaces, NAMESPACE_KEY: pod.namespace}


@dataclass(frozen=True, slots=True)
class _EntityPeers:
    entity: Entity

    def covers(self, view: ClusterView, point: PeerPoint, reading: IpBlockReading) -> bool:
        in_cluster = point.pod is not None or point.span in view.node_addresses
        if self.entity == "all":
            return True
        if self.entity == "cluster":
            return in_cluster
        if self.entity == "remote-node":
            return in_cluster and point.pod is None
        if self.entity in ("host", "none"):
            return False
        families = {"world-ipv4": (4,), "world-ipv6": (6,)}.get(self.entity, (4, 6))
        return not in_cluster and point.span.family in families

    def spans(self) -> Iterable[Span]:
        return _WHOLE


class _IngressDeny(_Rule):
    from_endpoints: tuple[EndpointSelector, ...] | None = Field(None, max_length=MAX_ITEMS)
    from_cidr: tuple[Cidr, ...] | None = Field(None, alias="fromCIDR", max_length=MAX_ITEMS)
    from_cidr_set: tuple[_CidrRule, ...] | None = Field(None, alias="fromCIDRSet", max_length=MAX_ITEMS)
    from_entities: tuple[Entity, ...] | None = Field(None, max_length=MAX_ITEMS)

    def ends(self) -> _Ends:
        return _Ends(self.from_endpoints, self.from_cidr, self.from_cidr_set, self.from_entities)


class _EgressDeny(_Rule):
    to_endpoints: tuple[EndpointSelector, ...] | None = Field(None, max_length=MAX_ITEMS)
    to_cidr: tuple[Cidr, ...] | None = Field(None, alias="toCIDR", max_length=MAX_ITEMS)
    to_cidr_set: tuple[_CidrRule, ...] | None = Field(None, alias="toCIDRSet", max_length=MAX_ITEMS)
    to_entities: tuple[Entity, ...] | None = Field(None, max_length=MAX_ITEMS)

    def ends(self) -> _Ends:
        return _Ends(self.to_endpoints, self.to_cidr, self.to_cidr_set, self.to_entities)


class _DefaultDeny(StrictModel):
    ingress: bool | None = None
    egress: bool | None = None


class _Spec(StrictModel):
    """One rule set. With `nodeSelector` it is about hosts and selects no pod."""

    endpoint_selector: EndpointSelector | None = None
    node_selector: Any = None
    ingress: Annotated[tuple[_IngressDeny, ...], BeforeValidator(none_to_list)] = Field((), max_length=MAX_ITEMS)
    ingress_deny: Annotated[tuple[_IngressDeny, ...], BeforeValidator(none_to_list)] = Field((), max_length=MAX_ITEMS)
    egress: Annotated[tuple[_EgressDeny, ...], BeforeValidator(none_to_list)] = Field((), max_length=MAX_ITEMS)
    egress_deny: Annotated[tuple[_EgressDeny, ...], BeforeValidator(none_to_list)] = Field((), max_length=MAX_ITEMS)
    enable_default_deny: Annotated[_DefaultDeny, BeforeValidator(none_to_dict)] = _DefaultDeny()
    labels: Any = None
    description: str = ""
    log: Any = None

    def rules(self, direction: Direction) -> tuple[tuple[_Rule, Word], ...]:
        """The rules of a direction with their word."""
        if direction == "Ingress":
            return (*((rule, _DENY) for rule in self.ingress_deny), *((rule, _ALLOW) for rule in self.ingress))
        return (*((rule, _DENY) for rule in self.egress_deny), *((rule, _ALLOW) for rule in self.egress))

    def isolates(self, direction: Direction) -> bool:
        """Whether what no rule allows is denied to the pods that it selects."""
        said = self.enable_default_deny.ingress if direction == "Ingress" else self.enable_default_deny.egress
        return bool(self.rules(direction)) if said is None else said


_DENY: Word = "deny"
_ALLOW: Word = "allow"


class CiliumPolicy(PolicyObject):
    """What both kinds are: any number of rule sets."""

    dialect: ClassVar[Dialect] = "cilium"

    spec: _Spec | None = None
    specs: Annotated[tuple[_Spec, ...], BeforeValidator(none_to_list)] = Field((), max_length=MAX_ITEMS)

    def parts(self, view: ClusterView, pod: Pod) -> tuple[_Spec, ...]:
        """The rule sets that apply to a pod."""
        home = self.metadata.namespace
        if pod.host_network or (home and pod.namespace != home):
            return ()
        every = (*((self.spec,) if self.spec is not None else ()), *self.specs)
        labels = endpoint_labels(view, pod)
        return tuple(
            item for item in every if item.endpoint_selector is not None and item.endpoint_selector.matches(labels)
        )

    def selects(self, view: ClusterView, pod: Pod) -> bool:
        """Whether it applies to a pod."""
        return bool(self.parts(view, pod))

    def directions(self) -> tuple[Direction, ...]:
        """The directions of which it speaks."""
        every = (*((self.spec,) if self.spec is not None else ()), *self.specs)
        both: tuple[Direction, ...] = ("Ingress", "Egress")
        return tuple(d for d in both if any(item.rules(d) or item.isolates(d) for item in every))

    def clauses(self, direction: Direction) -> tuple[Clause, ...]:
        """Its rules for a direction, in their order."""
        every = (*((self.spec,) if self.spec is not None else ()), *self.specs)
        return tuple(clause for item in every for clause in self.clauses_of(item, direction))

    def clauses_of(self, part: _Spec, direction: Direction) -> tuple[Clause, ...]:
        """The clauses of one rule set."""
        made = (rule.clause(self.key, word, self.metadata.namespace) for rule, word in part.rules(direction))
        return tuple(clause for clause in made if clause is not None)


class CiliumNetworkPolicy(CiliumPolicy):
    """A policy of one namespace."""

    kind: ClassVar[str] = "CiliumNetworkPolicy"


class CiliumClusterwideNetworkPolicy(CiliumPolicy):
    """A policy of the whole cluster."""

    kind: ClassVar[str] = "CiliumClusterwideNetworkPolicy"

    metadata: ClusterMeta


def stages(view: ClusterView, pod: Pod, direction: Direction) -> tuple[Stage, ...]:
    """What denies, then what allows, NetworkPolicies included; each only if there is any."""
    clauses: list[Clause] = []
    isolating: list[str] = []
    for policy in view.objects_of("cilium"):
        for part in policy.parts(view, pod) if isinstance(policy, CiliumPolicy) else ():
            clauses += policy.clauses_of(part, direction) if isinstance(policy, CiliumPolicy) else ()
            if part.isolates(direction):
                isolating.append(policy.key)
    for known in view.policies_on(pod, direction):
        clauses += known.clauses(direction)
        isolating.append(known.key)
    denying = tuple(clause for clause in clauses if clause.word == "deny")
    allowing = tuple(clause for clause in clauses if clause.word == "allow")
    made = [Stage(denying, "pass")] if denying else []
    if isolating:
        made.append(Stage(allowing, "deny", tuple(dict.fromkeys(isolating))))
    return tuple(made)
