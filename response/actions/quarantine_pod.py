"""Isolate the attacking pods, and only them, in both directions.

A policy that selects a label of ours and lets nothing through is written first; then the pods get the label. DNS and
every peer are cut on purpose. Where another policy still allows the pod something, a NetworkPolicy cannot take it back:
the proof says so and the plan is refused. Dialects that deny can. Service membership is left as it is.
"""

from __future__ import annotations

from response.guard import Refusal, subject_of
from response.objects import QUARANTINE_LABEL, pod_label_object
from response.plan import Permission, Plan, PlanContext, load_dialects
from response.steps import policy_annotations, undo_label, undo_policy
from schemas.policy.cluster import Pod

NAME = "quarantine_pod"
TITLE = "Isolate the attacking pods in both directions"
RBAC = (
    Permission("networking.k8s.io", "networkpolicies", ("get", "list", "create", "patch", "delete")),
    Permission("", "pods", ("get", "list", "patch")),
)

IN_DIALECTS = True


def plan(context: PlanContext) -> Plan | Refusal:
    """A policy for each namespace and a label for each attacking pod, or why there is none."""
    pods: dict[str, Pod] = {}
    for endpoint in context.decision.attackers:
        pod = subject_of(endpoint, context.view, context.settings)
        if isinstance(pod, Refusal):
            return pod
        other = pod.labels.get(QUARANTINE_LABEL)
        if other is not None and other != context.decision.id:
            return Refusal("already_quarantined", f"{pod.key} is already quarantined by response {other}")
        pods[pod.key] = pod
    label = {QUARANTINE_LABEL: context.decision.id}
    summary = f"quarantine {', '.join(pods)}"
    notes = policy_annotations(context, summary)
    policies = load_dialects()[context.dialect].quarantine(tuple(pods.values()), context, summary)
    if isinstance(policies, Refusal):
        return policies
    labelled = tuple(pod_label_object(pod, label, notes) for pod in pods.values())
    return Plan(
        action=NAME,
        target=", ".join(pods),
        summary=summary,
        pods=tuple(pods),
        manifests=policies + labelled,
        undo=tuple(undo_label(pod) for pod in pods.values()) + tuple(undo_policy(item) for item in policies),
        isolates=True,
        pod_labels=dict.fromkeys(pods, label),
    )
