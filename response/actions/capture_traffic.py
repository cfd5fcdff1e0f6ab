"""Write down a bounded part of the attacking pods' traffic on their nodes, as evidence with its hash.

It stops nothing, so no deadline is met by it. What pods say may be private: it must be asked for by `response.opt_in`,
and each node has a directory for it or refuses. The agent of the node does it by a signed command.
"""

from __future__ import annotations

from response.guard import Refusal, subject_of
from response.node.entries import canonical
from response.node.steps import NodeStep, node_plan, refuse_node_of, refuse_nodes
from response.plan import Permission, Plan, PlanContext
from response.steps import refuse_unasked
from schemas.node_command import MAX_CAPTURES, Capture
from schemas.policy.cluster import Pod

NAME = "capture_traffic"
TITLE = "Write down a bounded part of the attacking pods' traffic"
# Nodes are commanded over the broker: in the cluster nothing is written, and read only which pod is where.
RBAC = (Permission("", "pods", ("get", "list")),)

CONTAINS = False
HARMLESS = True


def plan(context: PlanContext) -> Plan | Refusal:
    """One command for each node, or why there is none."""
    refusal = refuse_unasked(NAME, context.settings) or refuse_nodes(context.settings)
    if refusal is not None:
        return refusal
    rates = context.settings.node_steps
    pods: dict[str, Pod] = {}
    wanted: dict[tuple[str, str], dict[str, Capture]] = {}
    for endpoint in context.decision.attackers:
        pod = subject_of(endpoint, context.view, context.settings)
        if isinstance(pod, Refusal):
            return pod
        refusal = refuse_node_of(pod)
        if refusal is not None:
            return refusal
        pods[pod.key] = pod
        # Of a pod with several addresses one leads to its interface, where all of them are seen.
        address = canonical(pod.ips[0])
        wanted.setdefault((pod.node, pod.namespace), {})[address] = Capture(
            address=address, packets=rates.capture_packets, bytes=rates.capture_bytes, seconds=rates.capture_s
        )
    if any(len(found) > MAX_CAPTURES for found in wanted.values()):
        return Refusal("too_many", f"more than {MAX_CAPTURES} pods on one node")
    steps = [NodeStep(node, space, captures=tuple(found.values())) for (node, space), found in sorted(wanted.items())]
    bounds = f"at most {rates.capture_packets} packets, {rates.capture_bytes} bytes, {rates.capture_s} s"
    summary = f"capture {', '.join(pods)} on {', '.join(step.node for step in steps)}: {bounds}"
    why = "a capture stops nothing, and nothing is claimed of it but its hash"
    return node_plan(NAME, summary, tuple(pods.values()), steps, context, why)
