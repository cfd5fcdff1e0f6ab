"""Isolate the attacking pods, and only them, in both directions.

A policy that selects a label of ours and lets nothing through is written first; then the pods get the label. What a pod
may ask of the cluster's resolver it may go on asking (`response.quarantine.dns`), unless the attack goes through it;
where that cannot be written DNS is cut, and then people must approve. Every other peer is cut on purpose. Where another
policy still allows the pod something, a NetworkPolicy cannot take it back: the proof says so and the plan is refused.
Dialects that deny can. With `response.quarantine.services: leave` the pod also leaves those Services that find it by
labels which its controller does not need.
"""

from __future__ import annotations

from response.guard import Refusal
from response.isolation import (
    attacking_pods,
    controller_of,
    isolation_plan,
    refuse_adoption,
    selector_labels,
    service_labels,
    services_of,
)
from response.plan import Detail, Permission, Plan, PlanContext
from response.resolver import through_resolver
from response.settings import ResponseSettings
from schemas.policy.cluster import Pod

NAME = "quarantine_pod"
TITLE = "Isolate the attacking pods in both directions"
RBAC = (
    Permission("networking.k8s.io", "networkpolicies", ("get", "list", "create", "patch", "delete")),
    Permission("", "pods", ("get", "list", "patch")),
)

IN_DIALECTS = True
SPARES_DNS = True


def details(settings: ResponseSettings) -> frozenset[Detail]:
    """Which labels a pod can lose depends on its controller."""
    return frozenset(("controllers",)) if settings.quarantine.services == "leave" else frozenset()


def plan(context: PlanContext) -> Plan | Refusal:
    """A policy for each namespace and a label for each attacking pod, or why there is none."""
    pods = attacking_pods(context)
    if isinstance(pods, Refusal):
        return pods
    taken: dict[str, dict[str, str]] = {}
    said: list[str] = []
    if context.settings.quarantine.services == "leave":
        for pod in pods:
            taken[pod.key] = _labels_of_services(pod, context)
            said += _services_left(pod, taken[pod.key], context)
    summary = f"quarantine {', '.join(pod.key for pod in pods)}{''.join(said)}"
    through = through_resolver(context.decision, context.view, context.settings)
    spares = context.settings.quarantine.dns == "keep" and not through
    return isolation_plan(NAME, summary, pods, taken, context, spares_dns=spares)


def _labels_of_services(pod: Pod, context: PlanContext) -> dict[str, str]:
    """The labels to take off a pod: those of Services that no controller finds it by; none where that is not known."""
    controllers = context.view.controllers
    owner = controller_of(pod, controllers or ())
    if controllers is None or not pod.uid or (pod.controller and owner is None):
        return {}
    needed = selector_labels(owner, pod) if owner is not None else frozenset()
    taken = {key: pod.labels[key] for key in sorted(service_labels(pod, context.view) - needed)}
    if owner is None and refuse_adoption(pod, taken, controllers) is not None:
        return {}
    return taken


def _services_left(pod: Pod, taken: dict[str, str], context: PlanContext) -> list[str]:
    """Which Services of a pod stop finding it without some labels, and which still do, in words."""
    found = services_of(pod, context.view)
    out = [service.name for service in found if taken.keys() & service.selector.keys()]
    still = [service.name for service in found if service.name not in out]
    words = [f", out of Service {', '.join(out)}"] if out else []
    return words + ([f", still in Service {', '.join(still)}, which needs labels of its controller"] if still else [])
