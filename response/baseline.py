"""A workload's peers of the last day, as rules of a policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from response.edges import Talk, pods_of, target_of
from response.objects import stable_labels
from response.plan import PlanContext
from response.steps import chosen_pods
from schemas.finding import Endpoint
from schemas.policy.addresses import host_cidr
from schemas.policy.cluster import NAMESPACE_NAME_LABEL


def peer_rules(talks: Iterable[Talk], way: str, context: PlanContext) -> Iterator[dict[str, Any]]:
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
            yield chosen_pods(pod.namespace, labels)


def dns_rules(context: PlanContext) -> Iterator[dict[str, Any]]:
    """The cluster's DNS servers and the resolvers of the settings."""
    settings = context.settings
    ports = [{"protocol": protocol, "port": port} for port in settings.dns_ports for protocol in ("UDP", "TCP")]
    yield {"to": [chosen_pods(settings.dns_namespace, settings.dns_labels)], "ports": ports}
    if settings.dns_addresses:
        yield {"to": [{"ipBlock": {"cidr": host_cidr(text)}} for text in settings.dns_addresses], "ports": ports}


def protected_rules(way: str, context: PlanContext) -> Iterator[dict[str, Any]]:
    """Whom no containment may cut off, whatever the day showed."""
    names = list(context.settings.protected_namespaces)
    if names:
        chosen = {"key": NAMESPACE_NAME_LABEL, "operator": "In", "values": names}
        yield {way: [{"namespaceSelector": {"matchExpressions": [chosen]}}]}


def edge_names(end: Endpoint) -> Iterator[str]:
    """What edges may call one end of the attack."""
    if end.ip:
        yield end.ip
    if end.service:
        namespace, _, name = end.service.partition("/")
        yield f"{namespace}/Service/{name}"
    if end.namespace and (end.workload or end.pod):
        yield f"{end.namespace}/{end.workload or f'Pod/{end.pod}'}"
