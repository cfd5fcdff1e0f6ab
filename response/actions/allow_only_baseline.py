"""Lock the attacking workload to those whom it talked to in the last day, the attack's own peers left out.

Everything that edges.v1 knows of it stays possible, on the same ports and in the same direction; whatever else an
attacker on it tries is cut. DNS and protected namespaces stay. A workload that nothing is known of yet is refused: it
would be cut from all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from response.edges import Talk, pods_of, target_of
from response.guard import Refusal
from response.objects import policy_object, stable_labels
from response.plan import Permission, Plan, PlanContext
from response.steps import numbered, policy_annotations, undo_policy
from response.workload import Selection, select_workloads
from schemas.finding import Endpoint
from schemas.policy.addresses import host_cidr
from schemas.policy.cluster import NAMESPACE_NAME_LABEL
from schemas.policy.networkpolicy import PROTOCOLS

NAME = "allow_only_baseline"
TITLE = "Lock a workload to the peers of its last day"
RBAC = (Permission("networking.k8s.io", "networkpolicies", ("get", "list", "create", "patch", "delete")),)

# Peers of one direction: a workload that talks to more has no baseline that people could read.
MAX_RULES = 64


def plan(context: PlanContext) -> Plan | Refusal:
    """One policy for each attacking workload, or why there is none."""
    subjects = select_workloads(context.decision.attackers, context.view, context.settings)
    if isinstance(subjects, Refusal):
        return subjects
    target = ", ".join(subject.text() for subject in subjects)
    summary = f"lock {target} to the peers of its last day"
    notes = policy_annotations(context, summary)
    manifests: list[dict[str, Any]] = []
    for number, subject in enumerate(subjects):
        spec = _spec(subject, context)
        if isinstance(spec, Refusal):
            return spec
        name = numbered(context, number)
        manifests.append(policy_object(subject.namespace, name, context.decision.id, notes, spec))
    return Plan(
        action=NAME,
        target=target,
        summary=summary,
        pods=tuple(key for subject in subjects for key in subject.pods),
        manifests=tuple(manifests),
        undo=tuple(undo_policy(item) for item in reversed(manifests)),
    )


def _spec(subject: Selection, context: PlanContext) -> dict[str, Any] | Refusal:
    workload = subject.workload or f"Pod/{subject.pods[0].partition('/')[2]}"
    known = context.edges.of(subject.namespace, workload)
    attacked = {name for end in context.decision.victims for name in _names(end)}
    kept = [talk for talk in known if talk.peer not in attacked and talk.protocol in PROTOCOLS]
    if not kept:
        message = f"nothing is known of whom {subject.text()} talks to, but for the attack: it would be cut from all"
        return Refusal("no_baseline", message)
    egress = list(_rules((talk for talk in kept if talk.initiated), "to", context))
    ingress = list(_rules((talk for talk in kept if not talk.initiated), "from", context))
    if len(egress) > MAX_RULES or len(ingress) > MAX_RULES:
        message = (
            f"{subject.text()} talks to {max(len(egress), len(ingress))} peers; at most {MAX_RULES} are written down"
        )
        return Refusal("too_many_peers", message)
    return {
        "podSelector": {"matchLabels": subject.labels},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [*ingress, *_protected("from", context)],
        "egress": [*egress, *_dns_rules(context), *_protected("to", context)],
    }


def _rules(talks: Iterable[Talk], way: str, context: PlanContext) -> Iterator[dict[str, Any]]:
    """A rule for each peer, by its name; peers that are gone or that no policy can name are left out."""
    ports: dict[str, set[tuple[str, int | str]]] = {}
    for talk in talks:
        # Of what comes in, the port is the workload's own.
        target = target_of(talk, context.view) if talk.initiated else talk.port
        if target is not None:
            ports.setdefault(talk.peer, set()).add((talk.protocol, target))
    for peer, wanted in sorted(ports.items()):
        peers = list(_peers(peer, context))
        if peers:
            ordered = sorted(wanted, key=lambda item: (item[0], str(item[1])))
            yield {way: peers, "ports": [{"protocol": protocol, "port": port} for protocol, port in ordered]}


def _peers(peer: str, context: PlanContext) -> Iterator[dict[str, Any]]:
    if "/" not in peer:
        yield {"ipBlock": {"cidr": host_cidr(peer)}}
        return
    written: set[tuple[tuple[str, str], ...]] = set()
    for pod in pods_of(peer, context.view):
        labels = stable_labels(pod, context.settings.volatile_labels)
        key = tuple(labels.items())
        if labels and key not in written:
            written.add(key)
            yield _selected(pod.namespace, labels)


def _dns_rules(context: PlanContext) -> Iterator[dict[str, Any]]:
    settings = context.settings
    ports = [{"protocol": protocol, "port": port} for port in settings.dns_ports for protocol in ("UDP", "TCP")]
    yield {"to": [_selected(settings.dns_namespace, settings.dns_labels)], "ports": ports}
    if settings.dns_addresses:
        yield {"to": [{"ipBlock": {"cidr": host_cidr(text)}} for text in settings.dns_addresses], "ports": ports}


def _protected(way: str, context: PlanContext) -> Iterator[dict[str, Any]]:
    """Whom no containment may cut off, whatever the day showed."""
    names = list(context.settings.protected_namespaces)
    if names:
        chosen = {"key": NAMESPACE_NAME_LABEL, "operator": "In", "values": names}
        yield {way: [{"namespaceSelector": {"matchExpressions": [chosen]}}]}


def _selected(namespace: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "namespaceSelector": {"matchLabels": {NAMESPACE_NAME_LABEL: namespace}},
        "podSelector": {"matchLabels": labels},
    }


def _names(end: Endpoint) -> Iterator[str]:
    """What edges may call one end of the attack."""
    if end.ip:
        yield end.ip
    if end.service:
        namespace, _, name = end.service.partition("/")
        yield f"{namespace}/Service/{name}"
    if end.namespace and (end.workload or end.pod):
        yield f"{end.namespace}/{end.workload or f'Pod/{end.pod}'}"
