"""Isolate every replica of the attacking workload in both directions, also replicas that start later.

For an attacker who holds more than one pod of it. All its users are cut off, so the budget for the share of replicas
refuses it unless `response.budgets.replica_share` says otherwise. Where another policy still allows the workload
something, a NetworkPolicy cannot take it back: the proof says so and the next rung is tried.
"""

from __future__ import annotations

from response.guard import Refusal
from response.objects import policy_object
from response.plan import Permission, Plan, PlanContext
from response.steps import numbered, policy_annotations, workload_policies
from response.workload import select_workloads

NAME = "isolate_workload"
TITLE = "Isolate all replicas of the attacking workload in both directions"
RBAC = (Permission("networking.k8s.io", "networkpolicies", ("get", "list", "create", "patch", "delete")),)


def plan(context: PlanContext) -> Plan | Refusal:
    """One policy for each attacking workload, or why there is none."""
    subjects = select_workloads(context.decision.attackers, context.view, context.settings)
    if isinstance(subjects, Refusal):
        return subjects
    summary = f"isolate {', '.join(subject.text() for subject in subjects)}"
    notes = policy_annotations(context, summary)
    manifests = tuple(
        policy_object(
            subject.namespace, numbered(context, number), context.decision.id, notes,
            {"podSelector": {"matchLabels": subject.labels}, "policyTypes": ["Ingress", "Egress"]},
        )
        for number, subject in enumerate(subjects)
    )  # fmt: skip
    return workload_policies(NAME, summary, subjects, manifests, isolates=True)
