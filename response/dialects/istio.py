"""Istio: an AuthorizationPolicy that denies, at the proxies of the attacked workload.

It is asked where a connection arrives, so only sources can be blocked, and it knows TCP only. Sources are named by
address: a service account is shared by more than the attacker. Besides, this is where mTLS is demanded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from response.blocked import Blocked
from response.guard import Refusal
from response.objects import managed_object
from response.plan import Manifests, Permission, PlanContext
from response.steps import numbered, policy_annotations
from response.workload import Selection
from schemas.policy.cluster import Pod
from schemas.policy.istio import in_mesh
from schemas.policy.words import Dialect

NAME: Dialect = "istio"
TITLE = "Istio AuthorizationPolicy"
_VERBS = ("get", "list", "create", "patch", "delete")
RBAC = (
    Permission("security.istio.io", "authorizationpolicies", _VERBS),
    Permission("security.istio.io", "peerauthentications", _VERBS),
    Permission("networking.istio.io", "destinationrules", _VERBS),
)


def block_ingress(
    subjects: Sequence[Selection], blocked: Blocked, context: PlanContext, summary: str
) -> Manifests | Refusal:
    """A DENY policy for the blocked addresses, one a workload of the mesh."""
    refusal = _refuse_strangers(subjects, context)
    if refusal is not None:
        return refusal
    rules = [{"from": [{"source": {"ipBlocks": list(blocked.cidrs)}}]}]
    return tuple(
        _object(
            "AuthorizationPolicy",
            subject.namespace,
            numbered(context, number),
            {"selector": {"matchLabels": subject.labels}, "action": "DENY", "rules": rules},
            context,
            summary,
        )
        for number, subject in enumerate(subjects)
    )


def block_egress(
    subjects: Sequence[Selection], blocked: Blocked, context: PlanContext, summary: str
) -> Manifests | Refusal:
    """Refused: Istio is asked where connections arrive."""
    return Refusal("not_in_dialect", "an AuthorizationPolicy says who may come in, not where a workload may go")


def quarantine(pods: Sequence[Pod], context: PlanContext, summary: str) -> Manifests | Refusal:
    """Refused likewise: what the pods send would stay open."""
    return Refusal("not_in_dialect", "an AuthorizationPolicy cannot stop what a pod sends")


def strict_mtls(
    subjects: Sequence[Selection], hosts: Sequence[str], context: PlanContext, summary: str
) -> Manifests | Refusal:
    """Refuse clients without a certificate of the mesh, and have those in it use theirs.

    `hosts` are the names of the Services in front, each a `name.namespace.svc.cluster.local`, one a subject.
    """
    refusal = _refuse_strangers(subjects, context)
    if refusal is not None:
        return refusal
    made: list[dict[str, Any]] = []
    for number, subject in enumerate(subjects):
        name = numbered(context, number)
        spec = {"selector": {"matchLabels": subject.labels}, "mtls": {"mode": "STRICT"}}
        made.append(_object("PeerAuthentication", subject.namespace, name, spec, context, summary))
        if number < len(hosts):
            rule = {"host": hosts[number], "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}
            made.append(_object("DestinationRule", subject.namespace, name, rule, context, summary))
    return tuple(made)


def _refuse_strangers(subjects: Sequence[Selection], context: PlanContext) -> Refusal | None:
    for subject in subjects:
        for pod in filter(None, map(context.view.pod, subject.pods)):
            if not in_mesh(context.view, pod):
                return Refusal("not_in_mesh", f"{pod.key} is not in the mesh: Istio has no say on it")
    return None


def _object(
    kind: str, space: str, name: str, spec: dict[str, Any], context: PlanContext, summary: str
) -> dict[str, Any]:
    notes = policy_annotations(context, summary)
    version = context.view.served[NAME]
    if kind == "DestinationRule":
        version = version.replace("security.", "networking.")
    return managed_object(version, kind, space, name, context.decision.id, notes, spec)
