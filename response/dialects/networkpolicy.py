"""Kubernetes NetworkPolicy: it only adds allowances, so a block is written as "everybody except".

Such a policy narrows a workload that no other policy isolates in that direction, and nothing else: for one that is
isolated already an allowance cannot be taken back, and the proof fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from response.blocked import Blocked
from response.guard import Refusal
from response.objects import QUARANTINE_LABEL, all_but, policy_object
from response.plan import Manifests, Permission, PlanContext
from response.steps import kept_rule, numbered, policy_annotations
from response.workload import Selection
from schemas.policy.cluster import Pod
from schemas.policy.words import Dialect

NAME: Dialect = "networkpolicy"
TITLE = "Kubernetes NetworkPolicy"
KEEPS_EGRESS = True
RBAC = (Permission("networking.k8s.io", "networkpolicies", ("get", "list", "create", "patch", "delete")),)


def block_ingress(
    subjects: Sequence[Selection], blocked: Blocked, context: PlanContext, summary: str
) -> Manifests | Refusal:
    """Ingress from all except the blocked."""
    rule = {"from": all_but(blocked.cidrs, blocked.workloads)}
    return _policies(subjects, {"policyTypes": ["Ingress"], "ingress": [rule]}, context, summary)


def block_egress(
    subjects: Sequence[Selection], blocked: Blocked, context: PlanContext, summary: str
) -> Manifests | Refusal:
    """Egress to all except the blocked."""
    rule = {"to": all_but(blocked.cidrs, blocked.workloads)}
    return _policies(subjects, {"policyTypes": ["Egress"], "egress": [rule]}, context, summary)


def quarantine(pods: Sequence[Pod], context: PlanContext, summary: str) -> Manifests | Refusal:
    """Isolation of labelled pods with nothing allowed but what is kept, one policy a namespace."""
    label = {QUARANTINE_LABEL: context.decision.id}
    spec: dict[str, Any] = {"podSelector": {"matchLabels": label}, "policyTypes": ["Ingress", "Egress"]}
    if context.kept_egress:
        spec["egress"] = [kept_rule(item) for item in context.kept_egress]
    notes = policy_annotations(context, summary)
    return tuple(
        policy_object(namespace, context.object_name, context.decision.id, notes, spec)
        for namespace in sorted({pod.namespace for pod in pods})
    )


def _policies(subjects: Sequence[Selection], spec: dict[str, Any], context: PlanContext, summary: str) -> Manifests:
    notes = policy_annotations(context, summary)
    return tuple(
        policy_object(
            subject.namespace,
            numbered(context, number),
            context.decision.id,
            notes,
            {"podSelector": {"matchLabels": subject.labels}, **spec},
        )
        for number, subject in enumerate(subjects)
    )
