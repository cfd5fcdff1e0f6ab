"""Isolate the attacking pods, and only them, in both directions.

A policy that selects a label of ours and allows nothing is written first; then the pods get the label. DNS and every
peer are cut on purpose. Where another policy still allows the pod something, this policy cannot take it back: the proof
says so and the plan is refused. Service membership is left as it is.
"""

from __future__ import annotations

from response.guard import Refusal, subject_of
from response.objects import QUARANTINE_LABEL, pod_label_object, policy_object
from response.plan import Permission, Plan, PlanContext
from response.steps import policy_annotations, undo_label, undo_policy
from schemas.policy.cluster import Pod

NAME = "quarantine_pod"
TITLE = "Isolate the attacking pods in both directions"
RBAC = (
    Permission("networking.k8s.io", "networkpolicies", ("get", "list", "create", "patch", "delete")),
    Permission("", "pods", ("get", "list", "patch")),
)


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
    spec = {"podSelector": {"matchLabels": label}, "policyTypes": ["Ingress", "Egress"]}
    notes = policy_annotations(context, summary)
    policies = tuple(
        policy_object(namespace, context.object_name, context.decision.id, notes, spec)
        for namespace in sorted({pod.namespace for pod in pods.values()})
    )
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
