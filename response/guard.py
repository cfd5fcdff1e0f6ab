"""What a response must never do, whatever the alert says. Each refusal is a reason word and a sentence."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from response.settings import ResponseSettings
from schemas.finding import Endpoint
from schemas.policy.addresses import Span, span_of_address, span_of_cidr
from schemas.policy.cluster import ClusterView, Pod
from schemas.response import ResponseDecision
from schemas.roles import SERVING

_BROADCAST = ipaddress.IPv4Address("255.255.255.255")
# Cutting one of these off cuts off everybody behind it, or blinds the owner.
_MANY_BEHIND = SERVING | {"monitoring_scraper"}
# What a Kubernetes label value and an object name both accept.
_LABEL_SAFE = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not done: one word for machines, one sentence for people."""

    reason: str
    message: str


def refuse_decision(decision: ResponseDecision) -> Refusal | None:
    """The refusal that holds for every action of a decision, or none.

    Spoofable evidence names whoever the attacker chose to write into his packets. Every action of the ladder is aimed
    at the attackers' addresses, so none may rest on it. Evidence is not spoofable where a handshake completed, or where
    the packets entered by a pod's own interface: then that pod is the attacker, whatever they claim.
    """
    if not _LABEL_SAFE.fullmatch(decision.id):
        message = "the response id is not 1 to 40 of a-z, 0-9 and -, so it cannot name objects"
        return Refusal("bad_id", message)
    if decision.spoofable:
        message = "the evidence could have been sent under a false address, so no address is blocked on it"
        return Refusal("spoofable", message)
    if not decision.attackers:
        return Refusal("no_attacker", "the alert names no attacker")
    return None


def refuse_subject(pod: Pod, settings: ResponseSettings, view: ClusterView) -> Refusal | None:
    """Why a pod must not be isolated, or none."""
    if pod.host_network:
        message = f"{pod.key} uses its node's network: no policy applies to it, and a block would hit the node"
        return Refusal("host_network", message)
    if pod.namespace in settings.protected_namespaces:
        return Refusal("protected", f"{pod.key} is in a protected namespace")
    if settings.own_labels and settings.own_labels.items() <= dict(pod.labels).items():
        return Refusal("own_component", f"{pod.key} is a component of this system")
    spaces = view.namespace_labels(pod.namespace)
    for key, value in sorted(settings.exempt_labels.items()):
        if value in (pod.labels.get(key), spaces.get(key)):
            whose = "it" if pod.labels.get(key) == value else "its namespace"
            return Refusal("exempt", f"{pod.key} is exempt: {whose} carries the label {key}={value}")
    return None


def subject_of(endpoint: Endpoint, view: ClusterView, settings: ResponseSettings) -> Pod | Refusal:
    """The pod that an endpoint of an alert names, if it is still the same and may be isolated."""
    where = endpoint.ip or "an endpoint without address"
    if endpoint.identity != "known":
        return Refusal("unknown_identity", f"no inventory names {where} at the time of the attack")
    if endpoint.pod is None or endpoint.namespace is None:
        return Refusal("not_a_pod", f"{where} is not a pod, and policies apply to pods only")
    pod = view.pod(f"{endpoint.namespace}/{endpoint.pod}")
    if pod is None:
        return Refusal("gone", f"pod {endpoint.namespace}/{endpoint.pod} no longer exists")
    spans = {span_of_address(text) for text in pod.ips}
    if not pod.host_network and endpoint.ip and span_of_address(endpoint.ip) not in spans:
        return Refusal("identity_changed", f"pod {pod.key} no longer has the address {endpoint.ip}")
    return refuse_subject(pod, settings, view) or pod


def refuse_address(endpoint: Endpoint, view: ClusterView, settings: ResponseSettings) -> Refusal | None:
    """Why an address must not be written into a policy as the one to block, or none."""
    if not endpoint.ip:
        return Refusal("no_address", "the endpoint has no address")
    address = ipaddress.ip_address(endpoint.ip)
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_unspecified or address.is_loopback or address.is_multicast or address == _BROADCAST:
        return Refusal(
            "special_address", f"{endpoint.ip} names no single host: blocking it would hit everybody or nobody"
        )
    span = span_of_address(endpoint.ip)
    roles = sorted(_MANY_BEHIND.intersection(endpoint.roles))
    if view.is_shared(span) or roles:
        as_what = f"declared as {', '.join(roles)}" if roles else "a node, gateway or proxy"
        return Refusal("shared_address", f"{endpoint.ip} is shared by many hosts ({as_what})")
    return refuse_span(span, endpoint.ip, view, settings)


def refuse_forging(endpoint: Endpoint) -> Refusal | None:
    """Why a rule about an attacker's own address would miss its packets, or none."""
    if not endpoint.forged:
        return None
    who = f"{endpoint.namespace}/{endpoint.pod}" if endpoint.pod else endpoint.ip
    message = f"{who} sends under addresses of others, such as {endpoint.forged[0]}: no rule by its own meets that"
    return Refusal("forges", message)


def refuse_span(span: Span, name: str, view: ClusterView, settings: ResponseSettings) -> Refusal | None:
    """Why some addresses must not be blocked, whoever has them, or none; `name` is what the refusal calls them."""
    for text in (*settings.protected_addresses, *settings.dns_addresses):
        kept = span_of_cidr(text)
        if kept.covers(span) or span.covers(kept):
            return Refusal("protected_address", f"{name} is protected by the settings ({text})")
    for held, service in view.service_addresses.items():
        if span.covers(held):
            where = f"{service.namespace}/{service.name}"
            return Refusal("service_address", f"{name} is Service {where}: enforcers see the pods behind it")
    return None
