"""Who leads among several responders: one Lease, held by renewing it.

Whoever wants to lead never trusts another's clock: he looks at the Lease, notes by his own clock when it last changed,
and takes it over once it did not change for as long as it says. Whoever leads stops acting before the others may begin
(source of the rule: Kubernetes' coordination.k8s.io/v1 Lease as its own controllers use it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from response.gateway import ClusterError
from response.objects import MANAGED_LABEL, MANAGER
from schemas.word import iso_time

DURATION_S = 15
# Renewed this often; three tries fit before the leader has to stop.
RENEW_S = 3.0
# After this without a renewal the leader stops acting, well before anybody else may begin.
HOLD_S = 10.0


class Candidate:
    """One process that wants to lead; `tick` is s of its own monotonic clock, `now` s since epoch for people."""

    def __init__(self, namespace: str, name: str, identity: str) -> None:
        self.namespace = namespace
        self.name = name
        self._metadata = {"namespace": namespace, "name": name, "labels": {MANAGED_LABEL: MANAGER}}
        self.identity = identity
        self.holder = ""
        self._seen: tuple[str, str] | None = None
        self._seen_at = 0.0
        self._held_until = float("-inf")

    def wanted(self, present: Mapping[str, Any] | None, now: float, tick: float) -> dict[str, Any] | None:
        """The Lease to write to lead or to go on leading; None while somebody else holds it."""
        if present is None:
            self.holder = ""
            return self._lease({"metadata": self._metadata}, now, 0)
        spec = present.get("spec") or {}
        self.holder = str(spec.get("holderIdentity") or "")
        seen = (self.holder, str(spec.get("renewTime") or ""))
        if seen != self._seen:
            self._seen, self._seen_at = seen, tick
        switches = int(spec.get("leaseTransitions") or 0)
        if self.holder == self.identity:
            return self._lease(present, now, switches)
        duration = float(spec.get("leaseDurationSeconds") or DURATION_S)
        if self.holder and tick - self._seen_at <= duration:
            return None
        return self._lease(present, now, switches + 1)

    def wrote(self, tick: float) -> None:
        """The Lease was written; `tick` is from before it was sent."""
        self.holder = self.identity
        self._held_until = tick + HOLD_S

    def released(self, present: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """The Lease to write to let another lead at once; None where it is not ours."""
        self._held_until = float("-inf")
        spec = (present or {}).get("spec") or {}
        if present is None or spec.get("holderIdentity") != self.identity:
            return None
        return {**present, "spec": {**spec, "holderIdentity": "", "leaseDurationSeconds": 1}}

    def leads(self, tick: float) -> bool:
        """Whether this process may act."""
        return tick < self._held_until

    def fence(self, tick: float) -> None:
        """Raise ClusterError where this process may not act."""
        if not self.leads(tick):
            message = "this responder does not lead any more: another may be acting"
            raise ClusterError(message, "not_leader")

    def _lease(self, present: Mapping[str, Any], now: float, switches: int) -> dict[str, Any]:
        old = present.get("spec") or {}
        # MicroTime: six digits.
        moment = iso_time(now).replace("Z", "000Z")
        ours = old.get("holderIdentity") == self.identity
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": dict(present["metadata"]),
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": DURATION_S,
                "acquireTime": old["acquireTime"] if ours and old.get("acquireTime") else moment,
                "renewTime": moment,
                "leaseTransitions": switches,
            },
        }
