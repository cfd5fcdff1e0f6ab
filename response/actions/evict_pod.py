"""End the attacking pods by the Eviction API, so that their controllers start fresh ones.

It respects PodDisruptionBudgets, and a pod's own time to shut down. It must be asked for by `response.opt_in`: what ran
is gone, memory and evidence with it, and no undo brings it back. A pod that nobody would replace is never evicted.
"""

from __future__ import annotations

from typing import Any

from response.guard import Refusal
from response.isolation import attacking_pods, refuse_second, refuse_unknown
from response.objects import EVICTION
from response.plan import Permission, Plan, PlanContext
from response.steps import refuse_unasked
from schemas.policy.cluster import Pod

NAME = "evict_pod"
TITLE = "End the attacking pods, as far as disruption budgets let"
RBAC = (Permission("", "pods", ("get", "list")), Permission("", "pods/eviction", ("create",)))


def plan(context: PlanContext) -> Plan | Refusal:
    """An eviction of each attacking pod, or why there is none."""
    pods = refuse_unasked(NAME, context.settings) or attacking_pods(context)
    if isinstance(pods, Refusal):
        return pods
    for number, pod in enumerate(pods):
        if not pod.controller or pod.detached:
            return Refusal("not_replaceable", f"{pod.key} belongs to nobody who would start another")
        refusal = refuse_unknown(pod) or refuse_second(pod, pods[:number], "evicted")
        if refusal is not None:
            return refusal
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
