"""What actions share: plans of workload policies, and the steps that take objects back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from response.blocked import Blocked
from response.guard import Refusal
from response.objects import (
    ALERT_ANNOTATION,
    DETACHED_ANNOTATION,
    EXPIRES_ANNOTATION,
    QUARANTINE_LABEL,
    REASON_ANNOTATION,
    TAKEN_ANNOTATION,
    TICK_ANNOTATION,
    pod_change_object,
    pod_label_object,
)
from response.plan import Kept, Manifests, Plan, PlanContext
from response.settings import ResponseSettings
from response.workload import Selection
from schemas.policy.addresses import span_of_cidr
from schemas.policy.cluster import NAMESPACE_NAME_LABEL, ClusterView, Pod

# Whatever we write on a pod besides labels.
_NOTES = (
    EXPIRES_ANNOTATION, TICK_ANNOTATION, ALERT_ANNOTATION, REASON_ANNOTATION, TAKEN_ANNOTATION, DETACHED_ANNOTATION,
)  # fmt: skip


def refuse_unasked(action: str, settings: ResponseSettings) -> Refusal | None:
    """Why an action that must be asked for is not tried, or none."""
    if action in settings.opt_in:
        return None
    return Refusal("not_opted_in", f"{action} is off: name it in response.opt_in if it is wanted")


def policy_annotations(context: PlanContext, summary: str) -> dict[str, str]:
    """What every policy of ours says about itself: why it is here, and until when."""
    return {
        EXPIRES_ANNOTATION: context.expires_at,
        TICK_ANNOTATION: str(context.decision.decided_tick),
        ALERT_ANNOTATION: context.decision.alert_id,
        REASON_ANNOTATION: f"{context.decision.kind}: {summary}"[:512],
    }


def undo_policy(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The step that takes a policy back."""
    metadata = manifest["metadata"]
    return {
        "step": "delete",
        "object": {
            "apiVersion": manifest["apiVersion"],
            "kind": manifest["kind"],
            "metadata": {key: metadata[key] for key in ("name", "namespace") if key in metadata},
        },
    }


def undo_label(pod: Pod) -> dict[str, Any]:
    """The step that takes a pod's quarantine label back."""
    return {"step": "unlabel", "object": pod_label_object(pod, {})}


def restore_labels(pod: Pod, taken: Mapping[str, str]) -> dict[str, Any]:
    """The step that gives a pod the labels back that were taken off it, and takes ours."""
    return {
        "step": "restore",
        "object": pod_change_object(pod, {**taken, QUARANTINE_LABEL: None}, dict.fromkeys(_NOTES)),
    }


def delete_detached(pod: Pod, response_id: str) -> dict[str, Any]:
    """The step that ends a pod which a response took from its controller: this one, not a later one of its name."""
    metadata = {
        "name": pod.name, "namespace": pod.namespace, "uid": pod.uid, "labels": {QUARANTINE_LABEL: response_id},
    }  # fmt: skip
    return {"step": "delete_detached", "object": {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}}


def undo_node_mark(name: str) -> dict[str, Any]:
    """The step that takes back what is ours on a node: label, annotations and cordon."""
    return {"step": "unlabel", "object": {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}}


def numbered(context: PlanContext, number: int) -> str:
    """The name of a response's policy for its first, second, ... workload."""
    return context.object_name if number == 0 else f"{context.object_name}-{number}"


def outside_cidrs(blocked: Blocked, view: ClusterView) -> tuple[str, ...]:
    """The blocks of addresses that are no pod's: where a dialect names pods by labels, these are what is left."""
    return tuple(text for text in blocked.cidrs if not view.pods_at(span_of_cidr(text)))


def kept_rule(kept: Kept) -> dict[str, Any]:
    """What a quarantine leaves open, as an egress rule of a NetworkPolicy."""
    ports = [{"protocol": protocol, "port": port} for protocol, port in kept.ports]
    if kept.cidrs:
        return {"to": [{"ipBlock": {"cidr": cidr}} for cidr in kept.cidrs], "ports": ports}
    return {"to": [chosen_pods(kept.namespace, kept.labels)], "ports": ports}


def chosen_pods(namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """The pods of a namespace with some labels, as a peer of a rule."""
    return {
        "namespaceSelector": {"matchLabels": {NAMESPACE_NAME_LABEL: namespace}},
        "podSelector": {"matchLabels": dict(labels)},
    }


def workload_policies(
    action: str, summary: str, subjects: Sequence[Selection], manifests: Manifests | Refusal, *, isolates: bool = False
) -> Plan | Refusal:
    """A plan of what a dialect wrote for some workloads, or why it could not."""
    if isinstance(manifests, Refusal):
        return manifests
    target = ", ".join(subject.text() for subject in subjects)
    pods = tuple(key for subject in subjects for key in subject.pods)
    return policies_plan(action, target, summary, pods, manifests, isolates=isolates)


def policies_plan(
    action: str, target: str, summary: str, pods: tuple[str, ...], manifests: Manifests, *, isolates: bool = False
) -> Plan:
    """A plan of policies alone, that are taken back in the opposite order."""
    return Plan(
        action=action,
        target=target,
        summary=summary,
        pods=pods,
        manifests=manifests,
        undo=tuple(undo_policy(item) for item in reversed(manifests)),
        isolates=isolates,
    )
