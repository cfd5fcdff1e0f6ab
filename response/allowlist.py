"""Whom operators never want cut off: addresses, blocks, pods, workloads, whole namespaces."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from response.guard import Refusal
from response.ledger import Allowed
from schemas.finding import Endpoint
from schemas.policy.addresses import span_of_address, span_of_cidr
from schemas.response import ResponseDecision

_NAME = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
_NAMED = re.compile(rf"{_NAME}/(\*|{_NAME}|[A-Za-z]{{1,63}}/{_NAME})")
# These take a destination from an attacker, or cut both off from each other; all others take the attacker's own doors
# or those of its victim.
_CUTS_VICTIMS = frozenset({"block_egress_destination", "cut_on_node"})


def read_target(text: str) -> str | Refusal:
    """An allow-list entry in its one written form: a CIDR block, namespace/*, namespace/pod or namespace/Kind/name."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        pass
    if _NAMED.fullmatch(text):
        return text
    message = f"{text[:80]!r} is no address, block, namespace/pod, namespace/Kind/name or namespace/*"
    return Refusal("bad_target", message)


def allowing(decision: ResponseDecision, action: str, allowed: Iterable[Allowed]) -> Allowed | None:
    """The first entry that covers somebody whom an action of a decision would cut off, or none."""
    ends = (*decision.attackers, *(decision.victims if action in _CUTS_VICTIMS else ()))
    return next((entry for entry in allowed if any(_covers(entry.target, end) for end in ends)), None)


def refuse_allowed(decision: ResponseDecision, action: str, allowed: Iterable[Allowed]) -> Refusal | None:
    """Why an action is not taken against somebody on the allow-list, or none."""
    entry = allowing(decision, action, allowed)
    if entry is None:
        return None
    return Refusal("allowed", f"{entry.operator} allows {entry.target}: {entry.reason or 'no reason given'}")


def _covers(target: str, end: Endpoint) -> bool:
    try:
        span = span_of_cidr(target)
    except ValueError:
        namespace, _, name = target.partition("/")
        return end.namespace == namespace and name in ("*", end.pod, end.workload)
    try:
        return bool(end.ip) and span.covers(span_of_address(end.ip))
    except ValueError:
        return False
