"""Decisions as the decide agent would send them, about pods of the lab."""

from __future__ import annotations

import hashlib

from schemas.finding import Endpoint
from schemas.response import ActionName, ResponseDecision
from tests.e2e.enforcement.stack import CLUSTER
from tests.lab.pods import Pod

TTL_S = 600


def endpoint(who: Pod | str, port: int | None = None) -> Endpoint:
    """A pod of the lab as workers name it, or an address that nobody names."""
    if isinstance(who, str):
        return Endpoint(ip=who, port=port, protocol="TCP" if port else None)
    return Endpoint(ip=who.ip4, port=port, protocol="TCP" if port else None, pod=who.name, namespace=who.namespace,
                    identity="known")  # fmt: skip


def decision(
    attacker: Pod, victim: Pod | str, now: float, *actions: ActionName, port: int | None = None, pod: str | None = None
) -> ResponseDecision:
    """What is to be done about one attacker and one victim; `pod` is the attacker's name where a controller gave it."""
    source = endpoint(attacker)
    if pod is not None:
        source = source.model_copy(update={"pod": pod})
    tail = hashlib.sha256(f"{attacker.name}{victim}{actions}{now}".encode()).hexdigest()[:8]
    return ResponseDecision(
        id=f"lab{tail}", alert_id=f"alert-{tail}", alert_revision=1, cluster=CLUSTER, detector="port_scan",
        kind="port_scan_vertical", severity="high", confidence=0.9, category="intrusion", mode="enforce",
        actions=actions, attackers=(source,), victims=(endpoint(victim, port),), spoofable=False, decided_tick=int(now),
        deadline_s=60, ttl_s=TTL_S, reason="test",
    )  # fmt: skip
