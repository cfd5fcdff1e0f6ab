"""Choosing the pods that a workload policy selects: all replicas of one workload, and nobody else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from response.guard import Refusal, refuse_subject, subject_of
from response.objects import stable_labels
from response.settings import ResponseSettings
from schemas.finding import Endpoint
from schemas.policy.cluster import ClusterView, Pod


@dataclass(frozen=True, slots=True)
class Selection:
    """The pods of one workload, and the labels that select exactly them."""

    namespace: str
    labels: dict[str, str]
    pods: tuple[str, ...]
    workload: str

    def text(self) -> str:
        """`namespace/Kind/name`, or the pod's key where no owner is known."""
        return f"{self.namespace}/{self.workload}" if self.workload else self.pods[0]


def select_workload(endpoint: Endpoint, view: ClusterView, settings: ResponseSettings) -> Selection | Refusal:
    """The workload of the pod that an endpoint names, if every selected pod may be isolated."""
    pod = subject_of(endpoint, view, settings)
    if isinstance(pod, Refusal):
        return pod
    labels = stable_labels(pod, settings.volatile_labels)
    if not labels:
        return Refusal("no_labels", f"{pod.key} has no labels that a policy could select it by")
    selected = pods_with(view, pod.namespace, labels)
    for other in selected:
        if other.workload != pod.workload or (not pod.workload and other.key != pod.key):
            message = f"the labels of {pod.key} also select {other.key} of another workload"
            return Refusal("selects_others", message)
        refusal = refuse_subject(other, settings, view)
        if refusal is not None:
            return refusal
    return Selection(pod.namespace, labels, tuple(other.key for other in selected), pod.workload)


def select_workloads(
    endpoints: Iterable[Endpoint], view: ClusterView, settings: ResponseSettings
) -> tuple[Selection, ...] | Refusal:
    """The workloads of several endpoints, each once; the first refusal refuses all."""
    found: dict[tuple[str, tuple[str, ...]], Selection] = {}
    for endpoint in endpoints:
        selection = select_workload(endpoint, view, settings)
        if isinstance(selection, Refusal):
            return selection
        found[selection.namespace, selection.pods] = selection
    return tuple(found.values())


def pods_with(view: ClusterView, namespace: str, labels: dict[str, str]) -> tuple[Pod, ...]:
    """The pods of a namespace that have all of some labels, in the view's order."""
    return tuple(pod for pod in view.pods_of(namespace) if labels.items() <= dict(pod.labels).items())
