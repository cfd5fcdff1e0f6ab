"""Slow down new connections to the attacked ports, on the nodes of the attacked pods: of each source, then in all.

Nobody is named as an attacker, so this may rest on evidence that could be spoofed: each source keeps a share that no
client misses, and a flood that comes from everywhere meets the limit of the port. Connections that are established
stay. Nothing is opened: the tables only drop.
"""

from __future__ import annotations

from typing import get_args

from response.guard import Refusal, subject_of
from response.node.entries import canonical
from response.node.steps import NodeStep, node_plan, refuse_node_of, refuse_nodes
from response.plan import Permission, Plan, PlanContext
from schemas.finding import Endpoint
from schemas.node_command import MAX_LIMITS, Limit, Transport
from schemas.policy.cluster import Pod

NAME = "rate_limit"
TITLE = "Limit new connections to the attacked ports on the pods' nodes"
# Nodes are commanded over the broker: in the cluster nothing is written, and read only which pod is where.
RBAC = (Permission("", "pods", ("get", "list")),)
NAMES_ATTACKERS = False


def plan(context: PlanContext) -> Plan | Refusal:
    """One command for each node, or why there is none."""
    refusal = refuse_nodes(context.settings)
    if refusal is not None:
        return refusal
    pods: list[Pod] = []
    limits: dict[tuple[str, str], dict[Limit, None]] = {}
    for victim in context.decision.victims:
        found = _limit(victim, context)
        if isinstance(found, Refusal):
            return found
        pod, limit = found
        pods.append(pod)
        limits.setdefault((pod.node, pod.namespace), {})[limit] = None
    steps = [NodeStep(node, space, limits=tuple(found)) for (node, space), found in sorted(limits.items())]
    if not steps:
        return Refusal("no_victim", "the alert names no victim whose port could be limited")
    if any(len(step.limits) > MAX_LIMITS for step in steps):
        return Refusal("too_many", f"more than {MAX_LIMITS} ports on one node")
    ports = ", ".join(f"{limit.victim} {limit.protocol}/{limit.port}" for step in steps for limit in step.limits)
    rates = context.settings.node_steps
    summary = f"limit new connections to {ports} to {rates.per_source}/s per source and {rates.in_all}/s in all"
    return node_plan(NAME, summary, pods, steps, context)


def _limit(victim: Endpoint, context: PlanContext) -> tuple[Pod, Limit] | Refusal:
    """The pod that an attacked endpoint names, and the limit of its port."""
    pod = subject_of(victim, context.view, context.settings)
    if isinstance(pod, Refusal):
        return pod
    protocol = (victim.protocol or "").upper()
    if not victim.port or protocol not in get_args(Transport):
        return Refusal("no_port", f"the alert names no TCP, UDP or SCTP port of {pod.key} to limit")
    refusal = refuse_node_of(pod)
    if refusal is not None:
        return refusal
    rates = context.settings.node_steps
    limit = Limit.model_validate(
        {"victim": canonical(victim.ip), "protocol": protocol, "port": victim.port,
         "per_source": rates.per_source, "in_all": max(rates.in_all, rates.per_source)}
    )  # fmt: skip
    return pod, limit
