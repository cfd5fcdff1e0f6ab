"""Which kinds of objects have a say in what is allowed, and how each is read: the registry of the dialects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from schemas.policy import adminpolicy, calico, cilium, istio
from schemas.policy.cluster import ClusterView, Pod, Unread
from schemas.policy.networkpolicy import NetworkPolicy, PolicyError, PolicyObject, policy_error
from schemas.policy.pipelines import pipelines
from schemas.policy.words import DIRECTIONS, Dialect


@dataclass(frozen=True, slots=True)
class ApiKind:
    """A kind as an API server serves it. Of the versions of one kind the first that is served is read."""

    model: type[PolicyObject]
    group: str
    versions: tuple[str, ...]
    kind: str
    plural: str
    namespaced: bool

    @property
    def dialect(self) -> Dialect:
        """The dialect that it is a word of."""
        return self.model.dialect


_ADMIN, _CALICO, _STORED, _CILIUM = (
    "policy.networking.k8s.io", "projectcalico.org", "crd.projectcalico.org", "cilium.io",
)  # fmt: skip
_ISTIO_VERSIONS = ("v1", "v1beta1")


def _calico(group: str, version: str) -> tuple[ApiKind, ...]:
    return (
        ApiKind(calico.CalicoNetworkPolicy, group, (version,), "NetworkPolicy", "networkpolicies", namespaced=True),
        ApiKind(
            calico.GlobalNetworkPolicy, group, (version,), "GlobalNetworkPolicy", "globalnetworkpolicies",
            namespaced=False,
        ),
        ApiKind(calico.Tier, group, (version,), "Tier", "tiers", namespaced=False),
        ApiKind(calico.NetworkSet, group, (version,), "NetworkSet", "networksets", namespaced=True),
        ApiKind(
            calico.GlobalNetworkSet, group, (version,), "GlobalNetworkSet", "globalnetworksets", namespaced=False
        ),
    )  # fmt: skip


KINDS: tuple[ApiKind, ...] = (
    ApiKind(
        cilium.CiliumNetworkPolicy, _CILIUM, ("v2",), "CiliumNetworkPolicy", "ciliumnetworkpolicies", namespaced=True
    ),
    ApiKind(
        cilium.CiliumClusterwideNetworkPolicy, _CILIUM, ("v2",), "CiliumClusterwideNetworkPolicy",
        "ciliumclusterwidenetworkpolicies", namespaced=False,
    ),
    *_calico(_CALICO, "v3"),
    *_calico(_STORED, "v1"),
    ApiKind(
        adminpolicy.ClusterNetworkPolicy, _ADMIN, ("v1alpha2", "v1beta1"), "ClusterNetworkPolicy",
        "clusternetworkpolicies", namespaced=False,
    ),
    ApiKind(
        adminpolicy.AdminNetworkPolicy, _ADMIN, ("v1alpha1",), "AdminNetworkPolicy", "adminnetworkpolicies",
        namespaced=False,
    ),
    ApiKind(
        adminpolicy.BaselineAdminNetworkPolicy, _ADMIN, ("v1alpha1",), "BaselineAdminNetworkPolicy",
        "baselineadminnetworkpolicies", namespaced=False,
    ),
    ApiKind(
        istio.AuthorizationPolicy, "security.istio.io", _ISTIO_VERSIONS, "AuthorizationPolicy",
        "authorizationpolicies", namespaced=True,
    ),
    ApiKind(
        istio.PeerAuthentication, "security.istio.io", _ISTIO_VERSIONS, "PeerAuthentication", "peerauthentications",
        namespaced=True,
    ),
    ApiKind(
        istio.DestinationRule, "networking.istio.io", _ISTIO_VERSIONS, "DestinationRule", "destinationrules",
        namespaced=True,
    ),
)  # fmt: skip
# The kinds that a plan is written in, one a dialect.
_WRITTEN = frozenset(
    ("CiliumNetworkPolicy", "NetworkPolicy", "ClusterNetworkPolicy", "AdminNetworkPolicy", "AuthorizationPolicy")
)
NETWORKPOLICY = ApiKind(
    NetworkPolicy, "networking.k8s.io", ("v1",), "NetworkPolicy", "networkpolicies", namespaced=True
)


def kind_of(document: Mapping[str, Any]) -> ApiKind | None:
    """The kind of an API object, or none if it has no say; one without apiVersion is known by kind alone."""
    group, slash, version = str(document.get("apiVersion", "")).partition("/")
    named = [item for item in (NETWORKPOLICY, *KINDS) if item.kind == document.get("kind")]
    if not slash:
        return next((item for item in named if item is NETWORKPOLICY), None)
    return next((item for item in named if item.group == group and version in item.versions), None)


def served_kinds(served: Mapping[str, frozenset[str]]) -> tuple[tuple[ApiKind, str], ...]:
    """The kinds to read with their version, given the kinds' plurals by `group/version` that a server serves.

    Calico stores its objects a second time in another group: that is read only where its own API is not served.
    """
    found: list[tuple[ApiKind, str]] = []
    for item in KINDS:
        version = next((v for v in item.versions if item.plural in served.get(f"{item.group}/{v}", ())), None)
        twice = item.group == _STORED and any(known.model is item.model for known, _ in found)
        if version is not None and not twice:
            found.append((item, version))
    return tuple(found)


def groups_read() -> frozenset[str]:
    """Every `group/version` in which something of a dialect may be written."""
    return frozenset(f"{item.group}/{version}" for item in KINDS for version in item.versions)


def api_versions(kinds: Iterable[tuple[ApiKind, str]]) -> dict[Dialect, str]:
    """The apiVersion in which each dialect is written, given the kinds that are served with their version."""
    found: dict[Dialect, str] = {"networkpolicy": "networking.k8s.io/v1"}
    for item, version in kinds:
        if item.kind in _WRITTEN:
            found.setdefault(item.dialect, f"{item.group}/{version}")
    return found


def read_object(document: Mapping[str, Any], known: ApiKind | None = None) -> PolicyObject:
    """A policy object of any dialect. Raises PolicyError for one that cannot be evaluated, or of no known kind."""
    found = known or kind_of(document)
    if found is None:
        message = f"{str(document.get('kind', '?'))[:100]} is no kind of policy that is evaluated"
        raise PolicyError(message)
    try:
        return found.model.model_validate(dict(document))
    except ValidationError as error:
        raise policy_error(found.model.kind, document, error) from None


def read_or_note(document: Mapping[str, Any], known: ApiKind) -> PolicyObject | Unread:
    """The same, but what cannot be evaluated is noted with where it may apply."""
    try:
        return read_object(document, known)
    except PolicyError as error:
        metadata = document.get("metadata")
        space = str(metadata.get("namespace") or "") if known.namespaced and isinstance(metadata, Mapping) else ""
        # A policy of the mesh's root namespace is one of the whole mesh.
        everywhere = known.dialect == "istio" and space == istio.ROOT_NAMESPACE
        return Unread(known.dialect, "" if everywhere else space, str(error))


def doubts(view: ClusterView, pod: Pod) -> tuple[str, ...]:
    """Why nobody can tell what is allowed to a pod, one line each; nothing if it can be told."""
    if pod.host_network:
        return ()
    unread = tuple(item.why for item in view.unread_on((pod.namespace,)))
    return (*unread, *adminpolicy.ties(view, pod), *calico.orphans(view, pod), *_tunnelled(view, pod))


def _tunnelled(view: ClusterView, pod: Pod) -> tuple[str, ...]:
    """Policies that name ports of a pod in ambient mode: what they get to see is the tunnel's port, 15008."""
    if not istio.is_ambient(view, pod):
        return ()
    lines = (line for direction in DIRECTIONS for line in pipelines(view, pod, direction) if line.enforcer != "istio")
    named = {clause.policy: None for line in lines for stage in line.stages for clause in stage.clauses if clause.ports}
    return tuple(f"{name} names ports, but sees only the tunnel's of a pod in ambient mode" for name in named)
