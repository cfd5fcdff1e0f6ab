"""Isolating the attacking pods, and only them: what quarantine_pod and detach_pod share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from response.guard import Refusal, subject_of
from response.objects import (
    DETACHED_ANNOTATION,
    QUARANTINE_LABEL,
    TAKEN_ANNOTATION,
    pod_change_object,
    pod_label_object,
    taken_text,
)
from response.plan import Kept, Plan, PlanContext, load_dialects
from response.prove import DNS_PROTOCOLS, dns_pods
from response.reach import pair_ports
from response.steps import delete_detached, policy_annotations, restore_labels, undo_label, undo_policy
from schemas.policy.addresses import host_cidr, span_of_address
from schemas.policy.cluster import ClusterView, Controller, Pod, Service, relabelled
from schemas.policy.words import READINGS

Taken = Mapping[str, Mapping[str, str]]


def attacking_pods(context: PlanContext) -> tuple[Pod, ...] | Refusal:
    """The pods of the attackers, each once, if every one may be isolated by this response."""
    pods: dict[str, Pod] = {}
    for endpoint in context.decision.attackers:
        pod = subject_of(endpoint, context.view, context.settings)
        if isinstance(pod, Refusal):
            return pod
        other = pod.labels.get(QUARANTINE_LABEL)
        if other is not None and other != context.decision.id:
            return Refusal("already_quarantined", f"{pod.key} is already quarantined by response {other}")
        pods[pod.key] = pod
    return tuple(pods.values())


def refuse_unknown(pod: Pod) -> Refusal | None:
    """Why a pod may not be ended: nobody knows which of its name it is."""
    if pod.uid:
        return None
    return Refusal("no_details", f"the API's uid of {pod.key} is not known here, so it could be another pod")


def refuse_second(pod: Pod, before: Iterable[Pod], done: str) -> Refusal | None:
    """Why a pod may not be touched beside others: one of its workload is among them. `done` says what is done."""
    if all((other.namespace, other.workload) != (pod.namespace, pod.workload) for other in before):
        return None
    return Refusal("one_at_a_time", f"several pods of {pod.namespace}/{pod.workload} attack; one is {done}")


def isolation_plan(
    action: str, summary: str, pods: tuple[Pod, ...], taken: Taken, context: PlanContext, *, detaches: bool = False,
    spares_dns: bool = False,
) -> Plan | Refusal:  # fmt: skip
    """A policy for each namespace that isolates a label of ours, then the label on each pod.

    Args:
        action: whose plan it is.
        summary: what it does, in words.
        pods: whom it isolates.
        taken: labels that are taken off them, by pod.
        context: what it is planned from.
        detaches: the pods leave their controller with these labels, so that undoing it ends them.
        spares_dns: what they may ask of resolvers they may go on asking, where the dialect can say so.
    """
    dialect = load_dialects()[context.dialect]
    kept = tuple(_resolvers_kept(pods, context)) if spares_dns and getattr(dialect, "KEEPS_EGRESS", False) else ()
    policies = dialect.quarantine(pods, replace(context, kept_egress=kept), summary)
    if isinstance(policies, Refusal):
        return policies
    notes = policy_annotations(context, summary)
    labels = {pod.key: {QUARANTINE_LABEL: context.decision.id, **dict.fromkeys(taken.get(pod.key, ()))} for pod in pods}
    marks = tuple(_mark(pod, labels[pod.key], taken.get(pod.key, {}), notes, detaches=detaches) for pod in pods)
    keys = tuple(pod.key for pod in pods)
    undo = tuple(_undo(pod, taken.get(pod.key, {}), context, detaches=detaches) for pod in pods)
    return Plan(
        action=action,
        target=", ".join(keys),
        summary=summary,
        pods=keys,
        manifests=policies + marks,
        undo=undo + tuple(undo_policy(item) for item in policies),
        isolates=True,
        pod_labels=labels,
        spares_dns=bool(kept),
    )


def _resolvers_kept(pods: tuple[Pod, ...], context: PlanContext) -> Iterator[Kept]:
    """The ports of resolvers that all of the pods are allowed now: more would be new to one of them."""
    settings = context.settings
    servers = [ip for pod in dns_pods(context.view, settings) for ip in pod.ips]
    inside = _open_ports(pods, servers, context)
    if inside:
        yield Kept(inside, settings.dns_namespace, settings.dns_labels)
    outside = _open_ports(pods, settings.dns_addresses, context)
    if outside:
        yield Kept(outside, cidrs=tuple(map(host_cidr, settings.dns_addresses)))


def _open_ports(pods: tuple[Pod, ...], servers: Iterable[str], context: PlanContext) -> tuple[tuple[str, int], ...]:
    pairs = [
        (span_of_address(ip), span_of_address(server))
        for pod in pods for ip in pod.ips for server in servers if (":" in ip) == (":" in server)
    ]  # fmt: skip
    if not pairs:
        return ()
    found = [pair_ports(context.view, one, other, reading) for one, other in pairs for reading in READINGS]
    return tuple(
        (protocol, port)
        for port in context.settings.dns_ports
        for protocol in DNS_PROTOCOLS
        if all(port in allowed[protocol] for allowed in found)
    )


def _mark(
    pod: Pod, labels: Mapping[str, str | None], taken: Mapping[str, str], notes: Mapping[str, str], *, detaches: bool
) -> dict[str, Any]:
    if not taken:
        return pod_label_object(pod, {key: value for key, value in labels.items() if value is not None}, notes)
    more = {TAKEN_ANNOTATION: taken_text(taken)}
    if detaches:
        more[DETACHED_ANNOTATION] = pod.controller
    return pod_change_object(pod, labels, {**notes, **more})


def _undo(pod: Pod, taken: Mapping[str, str], context: PlanContext, *, detaches: bool) -> dict[str, Any]:
    if detaches:
        return delete_detached(pod, context.decision.id)
    return restore_labels(pod, taken) if taken else undo_label(pod)


def refuse_adoption(pod: Pod, taken: Mapping[str, str], controllers: Iterable[Controller]) -> Refusal | None:
    """Why a pod without owner may not lose labels: somebody would find it by those that are left, and own it.

    Whoever owns more pods than he wants deletes one.
    """
    left = relabelled(pod.labels, dict.fromkeys(taken))
    for item in controllers:
        if item.namespace == pod.namespace and item.selector.matches(left):
            return Refusal("would_be_adopted", f"{item.word} selects {pod.key} by other labels and would own it")
    return None


def service_labels(pod: Pod, view: ClusterView) -> frozenset[str]:
    """The labels by which Services of its namespace select a pod."""
    return frozenset(key for service in services_of(pod, view) for key in service.selector)


def services_of(pod: Pod, view: ClusterView) -> tuple[Service, ...]:
    """The Services of its namespace that select a pod."""
    labels = dict(pod.labels)
    return tuple(
        service
        for service in view.services
        if service.namespace == pod.namespace and service.selector and service.selector.items() <= labels.items()
    )


def selector_labels(controller: Controller, pod: Pod) -> frozenset[str]:
    """The labels of a pod by which a controller finds it."""
    wanted = {item.key for item in controller.selector.match_expressions if item.operator in ("In", "Exists")}
    return frozenset((wanted | set(controller.selector.match_labels)) & set(pod.labels))


def controller_of(pod: Pod, controllers: Iterable[Controller]) -> Controller | None:
    """The controller that owns a pod, if it is among those given."""
    return next((item for item in controllers if (item.namespace, item.word) == (pod.namespace, pod.controller)), None)
