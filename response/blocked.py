"""Whom a block names: addresses for hosts outside, and addresses with labels for pods."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from response.guard import Refusal, refuse_address, refuse_forging, refuse_span
from response.objects import stable_labels
from response.settings import ResponseSettings
from response.workload import pods_with
from schemas.finding import Endpoint
from schemas.policy.addresses import host_cidr, span_of_address, span_of_cidr
from schemas.policy.cluster import ClusterView


@dataclass(frozen=True, slots=True)
class Blocked:
    """CIDR blocks, and (namespace, labels) of workloads whose addresses are among the blocks."""

    cidrs: tuple[str, ...]
    workloads: tuple[tuple[str, dict[str, str]], ...]
    names: tuple[str, ...]


def blocked_peers(endpoints: Iterable[Endpoint], view: ClusterView, settings: ResponseSettings) -> Blocked | Refusal:
    """What a policy must exclude to block some endpoints; the first refusal refuses all.

    A pod stands for its workload: all replicas are excluded, by label and by present address.
    """
    cidrs: set[str] = set()
    workloads: list[tuple[str, dict[str, str]]] = []
    names: list[str] = []
    for endpoint in endpoints:
        refusal = refuse_address(endpoint, view, settings) or refuse_forging(endpoint)
        if refusal is not None:
            return refusal
        cidrs.add(block_around(endpoint.ip, view, settings))
        names.append(endpoint.ip)
        for pod in view.pods_at(span_of_address(endpoint.ip)):
            names[-1] = pod.key
            labels = stable_labels(pod, settings.volatile_labels)
            if not labels:
                return Refusal("no_labels", f"{pod.key} has no labels by which a policy could exclude it")
            workloads.append((pod.namespace, labels))
            for replica in pods_with(view, pod.namespace, labels):
                cidrs.update(host_cidr(text) for text in replica.ips if not replica.host_network)
    return Blocked(tuple(sorted(cidrs)), tuple(workloads), tuple(names))


def block_around(text: str, view: ClusterView, settings: ResponseSettings) -> str:
    """The block that stands for an address: itself, or the IPv6 prefix of the settings if that holds nobody of ours."""
    host = host_cidr(text)
    if settings.ipv6_prefix == 128 or not host.endswith("/128") or view.pods_at(span_of_address(text)):
        return host
    block = str(ipaddress.ip_network(f"{host.removesuffix('/128')}/{settings.ipv6_prefix}", strict=False))
    span = span_of_cidr(block)
    taken = (*view.pod_addresses(), *view.node_addresses, *view.shared)
    if any(span.covers(held) or held.covers(span) for held in taken) or refuse_span(span, block, view, settings):
        return host
    return block
