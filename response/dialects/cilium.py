"""Cilium: rules that deny, which win over every rule that allows.

`enableDefaultDeny` is off in both directions: without it a policy of deny rules alone would isolate the pod. Blocks of
addresses mean hosts outside the cluster, so pods are denied by their labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from response.blocked import Blocked
from response.guard import Refusal
from response.objects import QUARANTINE_LABEL, managed_object
from response.plan import Manifests, Permission, PlanContext
from response.steps import numbered, outside_cidrs, policy_annotations
from response.workload import Selection
from schemas.policy.cilium import NAMESPACE_KEY
from schemas.policy.cluster import Pod
from schemas.policy.words import Dialect

NAME: Dialect = "cilium"
TITLE = "CiliumNetworkPolicy"
RBAC = (Permission("cilium.io", "ciliumnetworkpolicies", ("get", "list", "create", "patch", "delete")),)


def block_ingress(
    subjects: Sequence[Selection], blocked: Blocked, context: PlanContext, summary: str
) -> Manifests | Refusal:
    """A deny rule for the blocked sources."""
    return _policies(subjects, "ingressDeny", _peers("from", blocked, context), context, summary)


def block_egress(
    subjects: Sequence[Selection], blocked: Blocked, context: PlanContext, summary: str
) -> Manifests | Refusal:
    """A deny rule for the blocked destinations."""
    return _policies(subjects, "egressDeny", _peers("to", blocked, context), context, summary)


def quarantine(pods: Sequence[Pod], context: PlanContext, summary: str) -> Manifests | Refusal:
    """Deny rules for everybody on labelled pods, one policy a namespace."""
    spec = {
        **_selecting({QUARANTINE_LABEL: context.decision.id}),
        "ingressDeny": [{"fromEntities": ["all"]}],
        "egressDeny": [{"toEntities": ["all"]}],
    }
    spaces = sorted({pod.namespace for pod in pods})
    return tuple(_object(space, context.object_name, context, summary, spec) for space in spaces)


def _policies(
    subjects: Sequence[Selection], field: str, rules: list[dict[str, Any]], context: PlanContext, summary: str
) -> Manifests:
    return tuple(
        _object(
            subject.namespace, numbered(context, number), context, summary, {**_selecting(subject.labels), field: rules}
        )
        for number, subject in enumerate(subjects)
    )


def _selecting(labels: dict[str, str]) -> dict[str, Any]:
    return {
        "endpointSelector": {"matchLabels": dict(labels)},
        "enableDefaultDeny": {"ingress": False, "egress": False},
    }


def _peers(way: str, blocked: Blocked, context: PlanContext) -> list[dict[str, Any]]:
    """One rule for addresses and one for pods: the API allows no rule to name both."""
    cidrs = outside_cidrs(blocked, context.view)
    pods = [{"matchLabels": {f"k8s:{NAMESPACE_KEY}": space, **labels}} for space, labels in blocked.workloads]
    rules: list[dict[str, Any]] = [{f"{way}CIDR": list(cidrs)}] if cidrs else []
    return rules + ([{f"{way}Endpoints": pods}] if pods else [])


def _object(space: str, name: str, context: PlanContext, summary: str, spec: dict[str, Any]) -> dict[str, Any]:
    notes = policy_annotations(context, summary)
    version = context.view.served[NAME]
    return managed_object(version, "CiliumNetworkPolicy", space, name, context.decision.id, notes, spec)
