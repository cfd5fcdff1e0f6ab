"""Small worlds of administrators' policies, written once and rendered as either generation of their API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.e2e.enforcement.worlds import PORTS, app
from tests.lab import pods
from tests.lab.pods import BY_NAME

GROUP = "policy.networking.k8s.io"
Generation = Literal["v1alpha1", "v1alpha2"]
Spec = dict[str, Any]
_WEB = BY_NAME["web"]


@dataclass(frozen=True)
class Rule:
    """One rule: an action in the older words, a direction, its peers, and TCP ports (none: all)."""

    action: Literal["Allow", "Deny", "Pass"]
    way: Literal["ingress", "egress"]
    peers: Sequence[Spec]
    ports: Sequence[int] = ()

    def rendered(self, generation: Generation) -> Spec:
        """The rule as the API has it."""
        ends = {"from" if self.way == "ingress" else "to": list(self.peers)}
        if generation == "v1alpha1":
            ports = [{"portNumber": {"protocol": "TCP", "port": port}} for port in self.ports]
            return {"action": self.action, **ends, **({"ports": ports} if ports else {})}
        action = "Accept" if self.action == "Allow" else self.action
        protocols = [{"tcp": {"destinationPort": {"number": port}}} for port in self.ports]
        return {"action": action, **ends, **({"protocols": protocols} if protocols else {})}


@dataclass(frozen=True)
class AdminPolicy:
    """Rules about one subject; without a priority they are the baseline."""

    subject: Spec
    rules: Sequence[Rule]
    priority: int | None = None

    def rendered(self, generation: Generation, number: int) -> Spec:
        """The object as the API has it."""
        spec: Spec = {"subject": self.subject}
        for rule in self.rules:
            spec.setdefault(rule.way, []).append(rule.rendered(generation))
        if generation == "v1alpha2":
            tier = "Baseline" if self.priority is None else "Admin"
            return self._object(generation, "ClusterNetworkPolicy", f"p{number}",
                                {**spec, "tier": tier, "priority": self.priority or 0})  # fmt: skip
        if self.priority is None:
            return self._object(generation, "BaselineAdminNetworkPolicy", "default", spec)
        return self._object(generation, "AdminNetworkPolicy", f"p{number}", {**spec, "priority": self.priority})

    def _object(self, generation: Generation, kind: str, name: str, spec: Spec) -> Spec:
        return {"apiVersion": f"{GROUP}/{generation}", "kind": kind, "metadata": {"name": name}, "spec": spec}


@dataclass(frozen=True)
class AdminWorld:
    """Policies of administrators and, as (namespace, name, spec), of namespaces."""

    name: str
    admin: Sequence[AdminPolicy]
    policies: Sequence[tuple[str, str, Spec]] = field(default=())


def _pods(namespace: str, name: str) -> Spec:
    space = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return {"pods": {"namespaceSelector": space, "podSelector": app(name)}}


_ALL: Spec = {"namespaces": {}}
_SHOP: Spec = {"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}
_OPEN: Spec = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}
_CLOSED: Spec = {"podSelector": {}, "policyTypes": ["Ingress"]}
_FRONTEND_ONLY: Spec = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [
    {"from": [{"podSelector": app("frontend")}]}]}  # fmt: skip

WORLDS = (
    AdminWorld("a denial comes before NetworkPolicies", [
        AdminPolicy(_SHOP, [Rule("Deny", "ingress", [_pods("reports", "report-builder")])], 5)],
        [("shop", "open", _OPEN)]),
    AdminWorld("a permission comes before NetworkPolicies", [
        AdminPolicy(_SHOP, [Rule("Allow", "ingress", [_pods("shop", "api")])], 5)],
        [("shop", "closed", _CLOSED)]),
    AdminWorld("the lower number comes first", [
        AdminPolicy(_ALL, [Rule("Deny", "ingress", [_ALL])], 6),
        AdminPolicy(_ALL, [Rule("Allow", "ingress", [_pods("shop", "api")])], 5)]),
    AdminWorld("rules of a policy are asked in their order", [
        AdminPolicy(_ALL, [Rule("Allow", "egress", [_pods("shop", "web")]), Rule("Deny", "egress", [_ALL])], 5)]),
    AdminWorld("what passes is decided by NetworkPolicies", [
        AdminPolicy(_ALL, [Rule("Pass", "ingress", [_pods("shop", "frontend")])], 1),
        AdminPolicy(_ALL, [Rule("Deny", "ingress", [_ALL])], 2)],
        [("shop", "one", _FRONTEND_ONLY)]),
    AdminWorld("the baseline decides where no NetworkPolicy does", [
        AdminPolicy(_ALL, [Rule("Deny", "ingress", [_ALL])])],
        [("shop", "one", _FRONTEND_ONLY)]),
    AdminWorld("one port", [AdminPolicy(_SHOP, [Rule("Deny", "ingress", [_ALL], [PORTS[1]])], 5)]),
    AdminWorld("sources are pods and never hosts outside", [
        AdminPolicy(_ALL, [Rule("Deny", "ingress", [_ALL])], 5)]),
    AdminWorld("blocks of addresses cover pods and hosts outside", [
        AdminPolicy(_ALL, [Rule("Deny", "egress", [{"networks": [
            f"{_WEB.ip4}/32", f"{_WEB.ip6}/128", f"{pods.OUTSIDE4}/32", f"{pods.OUTSIDE6}/128"]}])], 5)]),
)  # fmt: skip
