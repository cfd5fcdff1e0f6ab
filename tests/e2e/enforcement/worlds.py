"""Small worlds of NetworkPolicies, and every connection among a few pods that enforcers are asked about."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from response.objects import all_but
from schemas.policy.evaluator import Flow
from tests.e2e.enforcement import talk
from tests.e2e.enforcement.lab_cluster import ECHO_PORT, LabCluster
from tests.lab import pods
from tests.lab.lab import wait_for
from tests.lab.pods import BY_NAME

CAST = ("web", "api", "client1", "client4")
PORTS = (ECHO_PORT, ECHO_PORT + 1)
AGREE_SECONDS = 30.0
Spec = dict[str, Any]


@dataclass(frozen=True)
class World:
    """Policies as (namespace, name, spec). `verdicts` are those that must occur, so that agreeing means something."""

    name: str
    policies: tuple[tuple[str, str, Spec], ...]
    verdicts: frozenset[bool] = frozenset({True, False})


def app(name: str) -> Spec:
    """A selector of a workload's pods."""
    return {"matchLabels": {"app": name}}


# The template that many teams write for a namespace: one way in, a database and names on the way out.
TEMPLATE: Spec = {
    "podSelector": {},
    "policyTypes": ["Ingress", "Egress"],
    "ingress": [{"from": [{"podSelector": app("frontend")}], "ports": [{"protocol": "TCP", "port": 8080}]}],
    "egress": [
        {"to": [{"podSelector": app("database")}], "ports": [{"protocol": "TCP", "port": 5432}]},
        {"to": [], "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
    ],
}


def _ingress(subject: Spec, *rules: Spec) -> Spec:
    return {"podSelector": subject, "policyTypes": ["Ingress"], "ingress": list(rules)}


def _egress(subject: Spec, *rules: Spec) -> Spec:
    return {"podSelector": subject, "policyTypes": ["Egress"], "egress": list(rules)}


_WEB = BY_NAME["web"]
_OURS = all_but((f"{_WEB.ip4}/32", f"{_WEB.ip6}/128"), [("shop", {"app": "web"})])

WORLDS = (
    World("no policy", (), frozenset({True})),
    World("nobody comes in", (("shop", "closed", _ingress({})),)),
    World("nobody gets out", (("shop", "closed", _egress({})),)),
    World("the production template", (("shop", "template", TEMPLATE),)),
    World("an empty rule allows all", (("shop", "closed", _ingress({})), ("shop", "open", _ingress(app("web"), {})))),
    World("a pod of the same namespace", (("shop", "one", _ingress(app("web"), {"from": [
        {"podSelector": app("api")}]})),)),
    World("another namespace", (("shop", "one", _ingress({}, {"from": [{"namespaceSelector": {
        "matchLabels": {"kubernetes.io/metadata.name": "reports"}}}]})),)),
    World("a pod of another namespace", (("shop", "one", _egress(app("api"), {"to": [{
        "namespaceSelector": {}, "podSelector": app("report-builder")}]})),)),
    World("all but some", (("shop", "one", _ingress(app("web"), {"from": [{"podSelector": {
        "matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["api"]}]}}]})),)),
    World("one port", (("shop", "one", _ingress({}, {"ports": [{"protocol": "TCP", "port": PORTS[1]}]})),)),
    World("a port by name", (("shop", "one", _ingress({}, {"ports": [{"protocol": "TCP", "port": "echo"}]})),)),
    World("a range of ports", (("shop", "one", _egress({}, {"ports": [
        {"protocol": "TCP", "port": PORTS[0] - 50, "endPort": PORTS[0]}]})),)),
    World("a block without an address", (("shop", "one", _egress(app("api"), {"to": [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": [f"{_WEB.ip4}/32"]}}]})),)),
    World("outside only", (("reports", "one", _egress({}, {"to": [
        {"ipBlock": {"cidr": "192.0.2.0/24"}}, {"ipBlock": {"cidr": "2001:db8::/32"}}]})),)),
    World("what we write to block a destination", (("shop", "ours", _egress(app("api"), {"to": _OURS})),)),
    World("both sides must agree", (("shop", "in", _ingress(app("web"), {"from": [{"podSelector": app("frontend")}]})),
                                    ("shop", "out", _egress(app("api"), {"to": [{"podSelector": app("web")}]})))),
)  # fmt: skip


def flows() -> tuple[Flow, ...]:
    """Every connection from each pod and from outside to each other of them, on each port, in both families."""
    fours = {name: BY_NAME[name].ip4 for name in CAST} | {pods.OUTSIDE: pods.OUTSIDE4}
    sixes = {name: BY_NAME[name].ip6 for name in CAST} | {pods.OUTSIDE: pods.OUTSIDE6}
    return tuple(
        Flow(family[one], family[other], "TCP", port)
        for family in (fours, sixes)
        for one in family
        for other in family
        for port in PORTS
        if one != other
    )


def _owner(address: str) -> str:
    return next((pod.name for pod in pods.PODS if address in (pod.ip4, pod.ip6)), pods.OUTSIDE)


def seen(cluster: LabCluster, asked: tuple[Flow, ...]) -> dict[Flow, bool]:
    """Try each connection once; which of them came about."""
    by_source: dict[str, list[Flow]] = defaultdict(list)
    for flow in asked:
        by_source[_owner(flow.source)].append(flow)

    def tried(where: str) -> dict[Flow, bool]:
        targets = [word for flow in by_source[where] for word in (flow.destination, str(flow.port))]
        words = cluster.lab.run(where, [sys.executable, "-S", "-m", talk.__name__, "once", *targets]).split()
        return {flow: word == talk.OK for flow, word in zip(by_source[where], words, strict=True)}

    with ThreadPoolExecutor(len(by_source)) as pool:
        return {flow: ok for part in pool.map(tried, by_source) for flow, ok in part.items()}


def agree(cluster: LabCluster, expected: Mapping[Flow, bool], what: str) -> None:
    """Wait until packets pass exactly where expected, and do so a second time.

    Raises:
        AssertionError: they do not; with the first connections that differ.
    """
    asked = tuple(expected)
    differing: dict[Flow, bool] = {}

    def agreed() -> bool:
        nonlocal differing
        found = seen(cluster, asked)
        differing = {flow: ok for flow, ok in found.items() if ok != expected[flow]}
        return not differing

    try:
        wait_for(lambda: agreed() and agreed(), what, AGREE_SECONDS)
    except TimeoutError as error:
        shown = [
            f"{f.source} to {f.destination}:{f.port} {'passes' if ok else 'is cut'}" for f, ok in differing.items()
        ]
        message = f"{error}: {'; '.join(shown[:8])}"
        raise AssertionError(message) from None
