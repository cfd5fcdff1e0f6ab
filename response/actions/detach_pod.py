"""Take the attacking pod out of its ReplicaSet, which starts a replacement, and keep it isolated as evidence.

The labels by which the ReplicaSet and Services find the pod are taken off it; the workload serves on with a fresh
replica, and the suspect runs on with nothing allowed to it. It is asked for by `response.opt_in`, because it cannot be
undone in full: the pod has been replaced, so undoing it, expiry included, ends exactly this pod. Only ReplicaSets
replace a pod that left them under another name; one pod of a workload at a time.
"""

from __future__ import annotations

from response.guard import Refusal
from response.isolation import (
    attacking_pods,
    controller_of,
    isolation_plan,
    refuse_adoption,
    refuse_second,
    refuse_unknown,
    selector_labels,
    service_labels,
)
from response.objects import QUARANTINE_LABEL
from response.plan import Detail, Permission, Plan, PlanContext
from response.settings import ResponseSettings
from response.steps import refuse_unasked
from schemas.policy.cluster import Pod

NAME = "detach_pod"
TITLE = "Replace the attacking pod, and keep it isolated outside its ReplicaSet"
RBAC = (
    Permission("networking.k8s.io", "networkpolicies", ("get", "list", "create", "patch", "delete")),
    Permission("", "pods", ("get", "list", "patch", "delete")),
    Permission("apps", "replicasets", ("list",)),
    Permission("apps", "statefulsets", ("list",)),
    Permission("apps", "daemonsets", ("list",)),
    Permission("batch", "jobs", ("list",)),
    Permission("", "replicationcontrollers", ("list",)),
)

IN_DIALECTS = True


def details(settings: ResponseSettings) -> frozenset[Detail]:
    """It must know by which labels controllers find their pods."""
    return frozenset(("controllers",)) if NAME in settings.opt_in else frozenset()


def plan(context: PlanContext) -> Plan | Refusal:
    """A policy for each namespace and a change of each pod's labels, or why there is none."""
    pods = refuse_unasked(NAME, context.settings) or attacking_pods(context)
    if isinstance(pods, Refusal):
        return pods
    taken: dict[str, dict[str, str]] = {}
    for number, pod in enumerate(pods):
        found = _labels(pod, context)
        if isinstance(found, Refusal):
            return found
        second = refuse_second(pod, pods[:number], "detached")
        if second is not None:
            return second
        taken[pod.key] = found
    owners = ", ".join(f"{pod.key} from {pod.controller}" for pod in pods)
    return isolation_plan(NAME, f"detach {owners}", pods, taken, context, detaches=True)


def _labels(pod: Pod, context: PlanContext) -> dict[str, str] | Refusal:
    """The labels to take off a pod so that its ReplicaSet and Services let go of it, or why it must stay."""
    if not pod.controller.startswith("ReplicaSet/"):
        owner = pod.controller or "nobody"
        return Refusal(
            "not_replaceable", f"{pod.key} belongs to {owner}: only a ReplicaSet replaces a pod that left it"
        )
    if pod.detached:
        # A repeat: it has left, and its ReplicaSet may be gone by now.
        return dict(pod.taken)
    refusal = refuse_unknown(pod)
    if refusal is not None:
        return refusal
    for other in context.view.pods:
        theirs = other.labels.get(QUARANTINE_LABEL)
        same = (other.namespace, other.workload) == (pod.namespace, pod.workload)
        if same and other.detached and theirs != context.decision.id:
            return Refusal("one_at_a_time", f"{other.key} of the same workload is detached by response {theirs}")
    controllers = context.view.controllers
    owner_set = controller_of(pod, controllers or ())
    if controllers is None or owner_set is None:
        message = f"{pod.controller} of {pod.key} cannot be read: replicasets: list is needed"
        return Refusal("no_details", message)
    if owner_set.replicas < 1:
        return Refusal("not_replaceable", f"{pod.controller} of {pod.key} wants no replicas, so none would be started")
    keys = selector_labels(owner_set, pod) | service_labels(pod, context.view)
    taken = {key: pod.labels[key] for key in sorted(keys)}
    return refuse_adoption(pod, taken, controllers) or taken
