"""Attacks through the cluster's own resolver: the pod that asks is the attacker, and to stop it is to cut its DNS."""

from __future__ import annotations

from collections.abc import Iterator

from response.prove import Proof, dns_pods
from response.settings import ResponseSettings
from schemas.policy.addresses import span_of_address
from schemas.policy.cluster import ClusterView
from schemas.response import ResponseDecision


def needs_approval(
    decision: ResponseDecision, proof: Proof | None, view: ClusterView, settings: ResponseSettings, *, spares: bool
) -> bool:
    """Tell whether a plan cuts a pod's DNS where people must say so: in answer to an attack through the resolver, or by
    an action that spares DNS where it can.

    A pod without DNS is down, and whether the names that it asks for are a tunnel is a judgement: people make it.
    """
    if proof is None or not any(row.status == "cut" for row in proof.dns):
        return False
    return spares or through_resolver(decision, view, settings)


def through_resolver(decision: ResponseDecision, view: ClusterView, settings: ResponseSettings) -> bool:
    """Tell whether the attack goes through the cluster's own resolver."""
    servers = set(map(span_of_address, resolver_addresses(view, settings)))
    return any(
        end.ip and end.port in settings.dns_ports and span_of_address(end.ip) in servers for end in decision.victims
    )


def resolver_addresses(view: ClusterView, settings: ResponseSettings) -> Iterator[str]:
    """Addresses of the resolvers that the settings name: their pods, the Services in front of them, and others."""
    for pod in dns_pods(view, settings):
        yield from pod.ips
    for service in view.services:
        if service.namespace == settings.dns_namespace and service.selector.items() >= settings.dns_labels.items():
            yield from service.ips
    yield from settings.dns_addresses
