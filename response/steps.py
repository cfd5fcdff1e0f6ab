"""What actions share: plans of workload policies, and the steps that take objects back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from response.objects import (
    ALERT_ANNOTATION,
    EXPIRES_ANNOTATION,
    REASON_ANNOTATION,
    TICK_ANNOTATION,
    pod_label_object,
    policy_object,
)
from response.plan import Plan, PlanContext
from response.workload import Selection
from schemas.policy.cluster import Pod


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
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        },
    }


def undo_label(pod: Pod) -> dict[str, Any]:
    """The step that takes a pod's quarantine label back."""
    return {"step": "unlabel", "object": pod_label_object(pod, {})}


def workload_policies(
    action: str, summary: str, subjects: Sequence[Selection], spec: Mapping[str, Any], context: PlanContext
) -> Plan:
    """A plan of one policy for each workload; `spec` lacks only the podSelector."""
    annotations = policy_annotations(context, summary)
    manifests = tuple(
        policy_object(
            subject.namespace,
            context.object_name if number == 0 else f"{context.object_name}-{number}",
            context.decision.id,
            annotations,
            {"podSelector": {"matchLabels": subject.labels}, **spec},
        )
        for number, subject in enumerate(subjects)
    )
    return Plan(
        action=action,
        target=", ".join(subject.text() for subject in subjects),
        summary=summary,
        pods=tuple(key for subject in subjects for key in subject.pods),
        manifests=manifests,
        undo=tuple(undo_policy(item) for item in reversed(manifests)),
    )
