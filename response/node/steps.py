"""Steps of plans that agents of nodes carry out, in the form of all other steps: manifests, and how to undo them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from response.drops import NODE_COMMAND
from response.guard import Refusal
from response.objects import MANAGED_LABEL, MANAGER, RESPONSE_LABEL
from response.plan import Plan, PlanContext
from response.settings import ResponseSettings
from response.steps import policy_annotations
from schemas.node_command import Capture, Cut, Limit
from schemas.policy.cluster import Pod

API_VERSION = "sluicegate.io/v1"


@dataclass(frozen=True, slots=True)
class NodeStep:
    """What the agent of one node is to do for the pods of one namespace."""

    node: str
    namespace: str
    cuts: tuple[Cut, ...] = ()
    limits: tuple[Limit, ...] = ()
    captures: tuple[Capture, ...] = ()


def refuse_nodes(settings: ResponseSettings) -> Refusal | None:
    """Why no node can be commanded, or none."""
    if settings.node_steps.enabled:
        return None
    return Refusal("no_node_agent", "no agents on nodes are configured: see response.node_steps.enabled")


def refuse_node_of(pod: Pod) -> Refusal | None:
    """Why the node of a pod cannot be commanded, or none."""
    return None if pod.node else Refusal("no_node", f"nobody says on which node {pod.key} runs")


def node_plan(
    action: str, summary: str, pods: Sequence[Pod], steps: Sequence[NodeStep], context: PlanContext, unproven: str = ""
) -> Plan:
    """A plan of one command for each node and namespace; `unproven` is why there is nothing to prove of it."""
    manifests = tuple(node_manifest(action, summary, step, context) for step in steps)
    keys = tuple(dict.fromkeys(pod.key for pod in pods))
    return Plan(
        action=action,
        target=", ".join(keys),
        summary=summary,
        pods=keys,
        manifests=manifests,
        undo=tuple(undo_node(item) for item in reversed(manifests)),
        unproven=unproven,
    )


def node_manifest(action: str, summary: str, step: NodeStep, context: PlanContext) -> dict[str, Any]:
    """The command for one node, not signed yet."""
    spec: dict[str, Any] = {
        "node": step.node,
        "action": action,
        "cuts": [cut.model_dump(mode="json") for cut in step.cuts],
        "limits": [limit.model_dump(mode="json") for limit in step.limits],
    }
    if step.captures:
        spec["captures"] = [capture.model_dump(mode="json") for capture in step.captures]
    return {
        "apiVersion": API_VERSION,
        "kind": NODE_COMMAND,
        "metadata": {
            "name": f"{context.object_name}-{step.node}",
            "namespace": step.namespace,
            "labels": {MANAGED_LABEL: MANAGER, RESPONSE_LABEL: context.decision.id},
            "annotations": dict(sorted(policy_annotations(context, summary).items())),
        },
        "spec": spec,
    }


def undo_node(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The step that takes back what a node does for a response."""
    metadata = manifest["metadata"]
    return {
        "step": "lift",
        "object": {
            "apiVersion": API_VERSION,
            "kind": NODE_COMMAND,
            "metadata": {
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "labels": {RESPONSE_LABEL: metadata["labels"][RESPONSE_LABEL]},
            },
            "spec": {"node": manifest["spec"]["node"]},
        },
    }
