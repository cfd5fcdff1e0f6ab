"""Drop every packet between attackers and victims on the node of the pod that is one of them.

What policies cannot do: established connections end at once, and what another policy allows is dropped all the same,
because a drop in the kernel is final. The node is the attacking pod's; an attacker outside is cut off on the node of
the pod that it attacks. Nothing is opened: the tables only drop.
"""

from __future__ import annotations

from response.blocked import block_around
from response.guard import Refusal, refuse_address, refuse_forging, subject_of
from response.node.entries import canonical
from response.node.steps import NodeStep, node_plan, refuse_node_of, refuse_nodes
from response.plan import Permission, Plan, PlanContext
from schemas.finding import Endpoint
from schemas.node_command import MAX_CUTS, Cut
from schemas.policy.addresses import span_of_address
from schemas.policy.cluster import Pod

NAME = "cut_on_node"
TITLE = "Drop packets between attackers and victims on the pod's node"
# Nodes are commanded over the broker: in the cluster nothing is written, and read only which pod is where.
RBAC = (Permission("", "pods", ("get", "list")),)


def plan(context: PlanContext) -> Plan | Refusal:
    """One command for each node, or why there is none."""
    refusal = refuse_nodes(context.settings)
    if refusal is not None:
        return refusal
    pods: list[Pod] = []
    cuts: dict[tuple[str, str], dict[Cut, None]] = {}
    for attacker in context.decision.attackers:
        for victim in context.decision.victims:
            if not attacker.ip or not victim.ip or attacker.ip == victim.ip:
                continue
            found = _cuts(attacker, victim, context)
            if isinstance(found, Refusal):
                return found
            pod, pairs = found
            pods.append(pod)
            cuts.setdefault((pod.node, pod.namespace), {}).update(dict.fromkeys(pairs))
    steps = [NodeStep(node, space, tuple(pairs)) for (node, space), pairs in sorted(cuts.items())]
    if not steps:
        return Refusal("no_flow", "the alert names no attacker and victim address to cut")
    if any(len(step.cuts) > MAX_CUTS for step in steps):
        return Refusal("too_many", f"more than {MAX_CUTS} pairs on one node")
    names = ", ".join(f"{cut.source} ↔ {cut.destination}" for step in steps for cut in step.cuts[:5])
    return node_plan(NAME, f"drop {names} on {', '.join(step.node for step in steps)}", pods, steps, context)


def _cuts(attacker: Endpoint, victim: Endpoint, context: PlanContext) -> tuple[Pod, tuple[Cut, ...]] | Refusal:
    """The pod on whose node an attacker and a victim are cut off from each other, and the pairs of their addresses.

    All addresses of a pod are cut, of both versions of IP: an attack on one would go on over the other.
    """
    view, settings = context.view, context.settings
    subject, other = (attacker, victim) if attacker.pod is not None else (victim, attacker)
    pod = subject_of(subject, view, settings)
    if isinstance(pod, Refusal):
        return pod
    refusal = refuse_node_of(pod) or refuse_address(other, view, settings) or refuse_forging(attacker)
    if refusal is not None:
        return refusal
    peers = {text for one in view.pods_at(span_of_address(other.ip)) for text in one.ips}
    peers.add(block_around(other.ip, view, settings))
    pairs = sorted({(canonical(one), canonical(peer)) for one in pod.ips for peer in peers})
    return pod, tuple(Cut(source=one, destination=peer) for one, peer in pairs if (":" in one) == (":" in peer))
