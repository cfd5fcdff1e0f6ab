"""End the attacking pods by the Eviction API, so that their controllers start fresh ones.

It respects PodDisruptionBudgets, and a pod's own time to shut down. It must be asked for by `response.opt_in`: what ran
is gone, memory and evidence with it, and no undo brings it back. A pod that nobody would replace is never evicted.
"""

from __future__ import annotations

from typing import Any

from response.guard import Refusal
from response.isolation import attacking_pods
from response.objects import EVICTION
from response.plan import Permission, Plan, PlanContext
from response.steps import refuse_unasked
from schemas.policy.cluster import Pod

NAME = "evict_pod"
TITLE = "End the attacking pods, as far as disruption budgets let"
RBAC = (Permission("", "pods", ("get", "list")), Permission("", "pods/eviction", ("create",)))


def plan(context: PlanContext) -> Plan | Refusal:
    """An eviction of each attacking pod, or why there is none."""
    refusal = refuse_unasked(NAME, context.settings)
    if refusal is not None:
        return refusal
    pods = attacking_pods(context)
    if isinstance(pods, Refusal):
        return pods
    workloads: set[tuple[str, str]] = set()
    for pod in pods:
        if not pod.controller or pod.detached:
            return Refusal("not_replaceable", f"{pod.key} belongs to nobody who would start another")
        if not pod.uid:
            return Refusal("no_details", f"the API's uid of {pod.key} is not known here, so it could be another pod")
        if (pod.namespace, pod.workload) in workloads:
            return Refusal("one_at_a_time", f"several pods of {pod.namespace}/{pod.workload} attack; one is evicted")
        workloads.add((pod.namespace, pod.workload))
    keys = tuple(pod.key for pod in pods)
    return Plan(
        action=NAME,
        target=", ".join(keys),
        summary=f"evict {', '.join(keys)}",
        pods=keys,
        manifests=tuple(map(_eviction, pods)),
        undo=(),
        unproven="an eviction ends the pod, and cuts nothing; packets show whether the attack ends with it",
    )


def _eviction(pod: Pod) -> dict[str, Any]:
    """Of this pod, not of a later one of its name."""
    return {
        "apiVersion": "policy/v1",
        "kind": EVICTION,
        "metadata": {"name": pod.name, "namespace": pod.namespace},
        "deleteOptions": {"preconditions": {"uid": pod.uid}},
    }
