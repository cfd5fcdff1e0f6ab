"""What a conversation shows of NetworkPolicies: not enforced, missing, wider than meant, or only for IPv4."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from detectors.base import TickView
from detectors.outside import is_outside_text
from detectors.policy_check import Connection, PolicyCheck
from detectors.sign import Sign
from schemas.policy.evaluator import Verdict
from schemas.roles import SHARED

NOT_ENFORCED, NO_DEFAULT_DENY, OPEN_HOLE, IPV6_OPEN = "not_enforced", "no_default_deny", "open_hole", "ipv6_open"


@dataclass(frozen=True)
class PolicySigns:
    """The signs of one conversation.

    Attributes:
        connection: after address translation.
        at: s since epoch.
        own: namespaces that need no default deny.
        resolvers: labels of pods that ask the outside by profession.
    """

    connection: Connection
    at: int
    own: Collection[str]
    resolvers: Mapping[str, str]

    def is_plain(self, view: TickView) -> bool:
        """Tell whether both ends are who policies mean: pods, or addresses outside, and nobody's translation."""
        ends = self.connection.ends()
        for ip, item in ends:
            if SHARED.intersection(view.roles(ip, self.at)) or (item is not None and item.kind != "Pod"):
                return False
            if item is None and (not is_outside_text(ip) or view.identities.role(ip, self.at) == "internal"):
                return False
        return any(item is not None for _, item in ends)

    def of(self, view: TickView, check: PolicyCheck) -> list[Sign]:
        """Return what is wrong."""
        verdict, flow = check.verdict(), self.connection.flow
        if not verdict.allowed:
            what = IPV6_OPEN if ":" in flow.destination else NOT_ENFORCED
            names = _policies(verdict)
            summary = f"{self._where()} conversed although {verdict.text()}: these policies are not enforced"
            return [Sign(what, names, "medium", names, f"{summary} over IPv6" if what == IPV6_OPEN else summary)]
        twin = check.in_ipv4()
        four = check.verdict(twin) if twin is not None else verdict
        if not four.allowed:
            names = _policies(four)
            summary = f"{self._where()} conversed, which policies deny between the same pods over IPv4: {four.text()}"
            return [Sign(IPV6_OPEN, names, "medium", names, summary)]
        return [*self._default_deny(verdict.ingress.because), *self._holes(view, check)]

    def _where(self) -> str:
        flow = self.connection.flow
        return f"{flow.source} and {flow.destination} port {flow.port}/{flow.protocol}"

    def _default_deny(self, because: str) -> list[Sign]:
        target, source = self.connection.target, self.connection.source
        if target is None or because != "not-isolated" or target.namespace in self.own:
            return []
        if source is not None and source.namespace == target.namespace:
            return []
        who = f"namespace {source.namespace}" if source is not None else "an address outside the cluster"
        summary = (
            f"no policy isolates {target.namespace}/{target.workload or target.name}, whose port "
            f"{self.connection.flow.port} {who} reached: namespace {target.namespace} has no default deny"
        )
        return [Sign(NO_DEFAULT_DENY, target.namespace, "low", f"namespace {target.namespace}: Ingress", summary)]

    def _holes(self, view: TickView, check: PolicyCheck) -> list[Sign]:
        source, flow = self.connection.source, self.connection.flow
        if source is None or self.connection.target is not None:
            return []
        if "resolver" in view.roles(flow.source, self.at) or self.resolvers.items() & source.labels.items():
            return []
        rules = check.holes()
        summary = f"{self._where()} conversed by a rule without destinations: every address is reached by that port"
        return [Sign(OPEN_HOLE, f"{rules[0]} {flow.port}", "low", ", ".join(rules), summary)] if rules else []


def _policies(verdict: Verdict) -> str:
    sides = (side for side in (verdict.egress, verdict.ingress) if not side.allowed)
    return ", ".join(sorted({name for side in sides for name in side.policies}))
