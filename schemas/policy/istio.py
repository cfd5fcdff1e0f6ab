"""Istio's word on who may connect to a pod of its mesh, as far as ports, addresses and identities decide.

It is asked in this order: PeerAuthentication (STRICT refuses whoever has no certificate of the mesh), then
AuthorizationPolicies that deny, then those that allow, which deny the rest. It speaks of TCP and of ingress only. What
looks into requests (methods, paths, hosts, headers, tokens), at other proxies' claims, or at single ports' mTLS refuses
the policy.

A pod is in the mesh if it carries the label that injection sets, or if its namespace or itself asks for ambient mode.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from schemas.policy.addresses import Span, span_of_cidr
from schemas.policy.labels import MAX_ITEMS, ApiModel, none_to_dict, none_to_list
from schemas.policy.layers import Clause, PeerPoint, Pipeline, PortRange, Stage
from schemas.policy.networkpolicy import PolicyObject
from schemas.policy.ports import ALL_PORTS, NO_PORTS, PortSet
from schemas.policy.strict import StrictModel, check_cidr
from schemas.policy.words import Dialect, Direction, IpBlockReading, Word

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.policy.cluster import ClusterView, Pod

ROOT_NAMESPACE = "istio-system"
MODE_LABEL = "istio.io/dataplane-mode"
_SIDECAR_LABEL = ("security.istio.io/tlsMode", "istio")
_WHOLE = (Span(4, 0, 2**32 - 1), Span(6, 0, 2**128 - 1))
_WORDS: dict[str, Word] = {"DENY": "deny", "ALLOW": "allow"}
Texts = Annotated[tuple[str, ...], BeforeValidator(none_to_list), Field(max_length=MAX_ITEMS)]
Cidrs = Annotated[
    tuple[Annotated[str, Field(max_length=64), AfterValidator(check_cidr)], ...],
    BeforeValidator(none_to_list),
    Field(max_length=MAX_ITEMS),
]


def is_ambient(view: ClusterView, pod: Pod) -> bool:
    """Whether a pod's traffic goes through the node's tunnel: policies of ports then see only the tunnel's port."""
    own = pod.labels.get(MODE_LABEL, view.namespace_labels(pod.namespace).get(MODE_LABEL))
    return own == "ambient" and not pod.host_network and not _has_sidecar(pod)


def in_mesh(view: ClusterView, pod: Pod) -> bool:
    """Whether Istio has a say on a pod, and gives it an identity."""
    return not pod.host_network and (_has_sidecar(pod) or is_ambient(view, pod))


def _has_sidecar(pod: Pod) -> bool:
    return pod.labels.get(_SIDECAR_LABEL[0]) == _SIDECAR_LABEL[1]


class _Source(StrictModel):
    """All of what is given must hold of the client."""

    principals: Texts = ()
    not_principals: Texts = ()
    namespaces: Texts = ()
    not_namespaces: Texts = ()
    ip_blocks: Cidrs = ()
    not_ip_blocks: Cidrs = ()


class _From(StrictModel):
    source: _Source


@dataclass(frozen=True, slots=True)
class _Client:
    """The clients that a source means; who is no pod of the mesh has no identity."""

    source: _Source
    trust_domain: str = "cluster.local"

    def covers(self, view: ClusterView, point: PeerPoint, reading: IpBlockReading) -> bool:
        source, pod = self.source, point.pod
        named = pod is not None and in_mesh(view, pod)
        space = pod.namespace if named and pod is not None else ""
        principal = f"{self.trust_domain}/ns/{space}/sa/{pod.service_account}" if named and pod is not None else ""
        blocks = (source.ip_blocks, source.not_ip_blocks)
        inside, outside = (any(span_of_cidr(text).covers(point.span) for text in texts) for texts in blocks)
        return (
            (not source.principals or _any_matches(source.principals, principal))
            and not _any_matches(source.not_principals, principal)
            and (not source.namespaces or _any_matches(source.namespaces, space))
            and not _any_matches(source.not_namespaces, space)
            and (not source.ip_blocks or inside)
            and not outside
        )

    def spans(self) -> Iterable[Span]:
        return (*_WHOLE, *(span_of_cidr(text) for text in (*self.source.ip_blocks, *self.source.not_ip_blocks)))


def _any_matches(patterns: Iterable[str], text: str) -> bool:
    """Istio's strings: exact, `*` for anything that is there, `prefix*`, `*suffix`; nothing matches no identity."""
    return bool(text) and any(_matches(pattern, text) for pattern in patterns)


def _matches(pattern: str, text: str) -> bool:
    if pattern.endswith("*"):
        return text.startswith(pattern[:-1])
    return text.endswith(pattern[1:]) if pattern.startswith("*") else text == pattern


def _check_port(text: str) -> str:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        message = f"{text!r} is no port"
        raise ValueError(message)
    return text


class _Operation(StrictModel):
    ports: Annotated[tuple[Annotated[str, AfterValidator(_check_port)], ...], BeforeValidator(none_to_list)] = ()
    not_ports: Annotated[tuple[Annotated[str, AfterValidator(_check_port)], ...], BeforeValidator(none_to_list)] = ()

    def numbers(self) -> PortSet:
        """The ports that it means."""
        wanted = PortSet.of((int(port), int(port)) for port in self.ports) if self.ports else ALL_PORTS
        return wanted - PortSet.of((int(port), int(port)) for port in self.not_ports)


class _To(StrictModel):
    operation: _Operation


class _Rule(StrictModel):
    """Any of the sources, and any of the operations."""

    sources: Annotated[tuple[_From, ...], BeforeValidator(none_to_list)] = Field((), alias="from", max_length=MAX_ITEMS)
    to: Annotated[tuple[_To, ...], BeforeValidator(none_to_list)] = Field((), max_length=MAX_ITEMS)

    def clause(self, policy: str, word: Word) -> Clause:
        """The rule in a policy."""
        numbers = NO_PORTS
        for item in self.to:
            numbers |= item.operation.numbers()
        return Clause(
            policy,
            word,
            tuple(_Client(item.source) for item in self.sources) or None,
            (PortRange(("TCP",), numbers),) if self.to else None,
        )


class _Workloads(StrictModel):
    match_labels: Annotated[dict[str, str], BeforeValidator(none_to_dict)] = Field(default_factory=dict)


class _AuthorizationSpec(StrictModel):
    selector: _Workloads | None = None
    action: Literal["ALLOW", "DENY", "AUDIT"] = "ALLOW"
    rules: Annotated[tuple[_Rule, ...], BeforeValidator(none_to_list)] = Field((), max_length=MAX_ITEMS)


class IstioPolicy(PolicyObject):
    """What both kinds are: for the pods of a namespace, or of all if it is the mesh's root namespace."""

    dialect: ClassVar[Dialect] = "istio"

    @abstractmethod
    def chosen_labels(self) -> dict[str, str]:
        """Labels of the pods that it is for; none: all."""

    def selects(self, view: ClusterView, pod: Pod) -> bool:
        """Whether it applies to a pod."""
        home = self.metadata.namespace in (ROOT_NAMESPACE, pod.namespace)
        return home and in_mesh(view, pod) and self.chosen_labels().items() <= dict(pod.labels).items()


class AuthorizationPolicy(IstioPolicy):
    """Who may connect, or may not."""

    kind: ClassVar[str] = "AuthorizationPolicy"

    spec: Annotated[_AuthorizationSpec, BeforeValidator(none_to_dict)] = _AuthorizationSpec()

    def chosen_labels(self) -> dict[str, str]:
        """The labels of its selector."""
        return self.spec.selector.match_labels if self.spec.selector is not None else {}

    def directions(self) -> tuple[Direction, ...]:
        """The directions of which it speaks."""
        return ("Ingress",) if self.spec.action in _WORDS else ()

    def clauses(self, direction: Direction) -> tuple[Clause, ...]:
        """Its rules for a direction, in their order."""
        if direction not in self.directions():
            return ()
        return tuple(rule.clause(self.key, _WORDS[self.spec.action]) for rule in self.spec.rules)


class _Mtls(StrictModel):
    mode: Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"] = "UNSET"


class _PeerSpec(StrictModel):
    selector: _Workloads | None = None
    mtls: Annotated[_Mtls, BeforeValidator(none_to_dict)] = _Mtls()


class PeerAuthentication(IstioPolicy):
    """Whether clients must have a certificate of the mesh."""

    kind: ClassVar[str] = "PeerAuthentication"

    spec: Annotated[_PeerSpec, BeforeValidator(none_to_dict)] = _PeerSpec()

    def chosen_labels(self) -> dict[str, str]:
        """The labels of its selector."""
        return self.spec.selector.match_labels if self.spec.selector is not None else {}

    def directions(self) -> tuple[Direction, ...]:
        """The directions of which it speaks."""
        return ("Ingress",)

    def breadth(self, pod: Pod) -> int:
        """The narrower one holds: 0 for chosen pods, 1 for a namespace, 2 for the mesh."""
        if self.chosen_labels():
            return 0
        return 1 if self.metadata.namespace == pod.namespace else 2


class DestinationRule(PolicyObject):
    """How clients connect; it has no say on who may."""

    dialect: ClassVar[Dialect] = "istio"
    kind: ClassVar[str] = "DestinationRule"

    spec: Annotated[ApiModel, BeforeValidator(none_to_dict)] = ApiModel()


@dataclass(frozen=True, slots=True)
class _Strangers:
    """Whoever has no certificate of the mesh."""

    def covers(self, view: ClusterView, point: PeerPoint, reading: IpBlockReading) -> bool:
        return point.pod is None or not in_mesh(view, point.pod)

    def spans(self) -> Iterable[Span]:
        return _WHOLE


def pipeline(view: ClusterView, pod: Pod, direction: Direction) -> Pipeline:
    """What the pod's proxy asks before it lets a client in; nothing for egress and outside the mesh."""
    if direction != "Ingress" or not in_mesh(view, pod):
        return Pipeline("istio", ())
    applying = [item for item in view.objects_of("istio") if item.selects(view, pod)]
    stages = list(_mtls(applying, pod))
    for action in ("DENY", "ALLOW"):
        said = [item for item in applying if isinstance(item, AuthorizationPolicy) and item.spec.action == action]
        clauses = tuple(clause for item in said for clause in item.clauses("Ingress"))
        if said:
            otherwise: Word = "pass" if action == "DENY" else "deny"
            stages.append(Stage(clauses, otherwise, tuple(item.key for item in said), ("TCP",)))
    return Pipeline("istio", tuple(stages))


def _mtls(applying: Iterable[PolicyObject], pod: Pod) -> Iterable[Stage]:
    said = [item for item in applying if isinstance(item, PeerAuthentication) and item.spec.mtls.mode != "UNSET"]
    if not said:
        return
    # Where two are equally narrow Istio takes the oldest; a view knows no ages, so the one that lets more in holds.
    narrowest = min(item.breadth(pod) for item in said)
    held = [item for item in said if item.breadth(pod) == narrowest]
    if all(item.spec.mtls.mode == "STRICT" for item in held):
        key = held[0].key
        yield Stage((Clause(key, "deny", (_Strangers(),)),), "pass", (key,), ("TCP",))
