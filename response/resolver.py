"""Attacks through the cluster's own resolver: the pod that asks is the attacker, and to stop it is to cut its DNS."""

from __future__ import annotations

from collections.abc import Iterator

from response.prove import Proof
from response.settings import ResponseSettings
from schemas.policy.addresses import Span, span_of_address
from schemas.policy.cluster import ClusterView
from schemas.response import ResponseDecision


def needs_approval(
    decision: ResponseDecision, proof: Proof | None, view: ClusterView, settings: ResponseSettings
) -> bool:
    """Tell whether a plan answers an attack through the resolver by cutting a pod's DNS.

    A pod without DNS is down, and whether the names that it asks for are a tunnel is a judgement: people make it.
    """
    if proof is None or not any(row.status == "cut" for row in proof.dns):
        return False
    servers = set(_resolvers(view, settings))
    return any(
        end.ip and end.port in settings.dns_ports and span_of_address(end.ip) in servers for end in decision.victims
    )


def _resolvers(view: ClusterView, settings: ResponseSettings) -> Iterator[Span]:
    """Addresses of the resolvers that the settings name: their pods, the Services in front of them, and others."""
    for pod in view.pods:
        if pod.namespace == settings.dns_namespace and settings.dns_labels.items() <= dict(pod.labels).items():
            yield from map(span_of_address, pod.ips)
    for service in view.services:
        if service.namespace == settings.dns_namespace and service.selector.items() >= settings.dns_labels.items():
            yield from map(span_of_address, service.ips)
    yield from map(span_of_address, settings.dns_addresses)
