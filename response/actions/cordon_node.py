"""Keep new pods off the node of the attacking pod, while somebody looks at it.

For an attacker who may hold the node. What runs there runs on: it stops nothing by itself, so no deadline is met by it.
It must be asked for by `response.opt_in`, because it takes room from everybody: never the last node that pods can go
to, never one of the control plane, and one node at a time in the whole cluster.
"""

from __future__ import annotations

from typing import Any

from response.guard import Refusal, subject_of
from response.objects import RESPONSE_LABEL
from response.plan import Detail, Permission, Plan, PlanContext
from response.settings import ResponseSettings
from response.steps import policy_annotations, refuse_unasked, undo_node_mark
from schemas.finding import Endpoint
from schemas.policy.cluster import Node, Pod

NAME = "cordon_node"
TITLE = "Keep new pods off the node of the attacking pod"
RBAC = (Permission("", "pods", ("get", "list")), Permission("", "nodes", ("get", "list", "patch")))

CONTAINS = False


def details(settings: ResponseSettings) -> frozenset[Detail]:
    """It must know which nodes are left."""
    return frozenset(("nodes",)) if NAME in settings.opt_in else frozenset()


def plan(context: PlanContext) -> Plan | Refusal:
    """A change of the node, or why there is none."""
    refusal = refuse_unasked(NAME, context.settings)
    if refusal is not None:
        return refusal
    pods: dict[str, Pod] = {}
    for endpoint in context.decision.attackers:
        pod = _pod(endpoint, context)
        if isinstance(pod, Refusal):
            return pod
        pods[pod.key] = pod
    names = sorted({pod.node for pod in pods.values()})
    if len(names) != 1 or not names[0]:
        message = f"the attacking pods run on {len(names)} nodes; one is cordoned" if all(names) else "no node is known"
        return Refusal("one_at_a_time" if all(names) else "no_node", message)
    refusal = _refuse_node(names[0], context)
    if refusal is not None:
        return refusal
    summary = f"cordon node {names[0]}, where {', '.join(pods)} runs"
    return Plan(
        action=NAME,
        target=f"node/{names[0]}",
        summary=summary,
        pods=tuple(pods),
        manifests=(_cordon(names[0], summary, context),),
        undo=(undo_node_mark(names[0]),),
        unproven="a cordon keeps new pods off a node and stops nothing that runs there",
    )


def _pod(endpoint: Endpoint, context: PlanContext) -> Pod | Refusal:
    """The pod that attacks; one on its node's network counts, too, for the node is what is touched."""
    found = subject_of(endpoint, context.view, context.settings)
    if isinstance(found, Refusal) and found.reason == "host_network":
        return context.view.pod(f"{endpoint.namespace}/{endpoint.pod}") or found
    return found


def _refuse_node(name: str, context: PlanContext) -> Refusal | None:
    nodes = context.view.nodes
    node = next((item for item in nodes or () if item.name == name), None)
    if nodes is None or node is None:
        return Refusal("no_details", f"node {name} cannot be read: nodes: list is needed")
    if node.control_plane:
        return Refusal("control_plane", f"node {name} is one of the control plane")
    mine = node.response_id == context.decision.id
    if node.unschedulable and not mine:
        whose = f"by response {node.response_id}" if node.response_id else "by somebody else"
        return Refusal("already_cordoned", f"node {name} is cordoned already, {whose}")
    other = next((item for item in nodes if item.response_id and item.response_id != context.decision.id), None)
    if other is not None:
        return Refusal("one_at_a_time", f"node {other.name} is cordoned by response {other.response_id}")
    if not any(item.name != name and _takes_pods(item) for item in nodes):
        return Refusal("last_node", f"no other node than {name} takes new pods")
    return None


def _takes_pods(node: Node) -> bool:
    return node.ready and not node.unschedulable and not node.control_plane


def _cordon(name: str, summary: str, context: PlanContext) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {RESPONSE_LABEL: context.decision.id},
            "annotations": dict(sorted(policy_annotations(context, summary).items())),
        },
        "spec": {"unschedulable": True},
    }
