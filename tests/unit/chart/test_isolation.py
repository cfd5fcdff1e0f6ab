"""The chart's NetworkPolicies, read by our own evaluator: each component reaches what it needs and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest

from schemas.policy.cluster import ClusterView, Pod
from schemas.policy.evaluator import Flow, evaluate
from schemas.policy.networkpolicy import Protocol, read_policy

Render = Callable[..., list[dict[str, Any]]]

ADDRESSES = {
    "worker": "10.0.0.1",
    "responder": "10.0.0.2",
    "topics": "10.0.0.3",
    "dns": "10.0.0.53",
    "prometheus": "10.0.0.4",
    "stranger": "10.0.0.5",
    "inventory": "10.0.0.6",
    "broker": "192.0.2.1",
    "apiserver": "192.0.2.2",
}


@pytest.fixture(scope="module")
def view(render: Render) -> ClusterView:
    """The chart's pods and policies, a resolver, Prometheus and a stranger."""
    objects = render()
    pods = [
        Pod(
            namespace="sluicegate",
            name=component,
            labels=item["spec"]["template"]["metadata"]["labels"],
            ips=(ADDRESSES[component],),
        )
        for item in objects
        if item["kind"] in ("Deployment", "StatefulSet", "Job")
        for component in [item["metadata"]["labels"]["app.kubernetes.io/component"]]
    ]
    others = [
        Pod(namespace="kube-system", name="dns", labels={"k8s-app": "kube-dns"}, ips=(ADDRESSES["dns"],)),
        Pod(namespace="monitoring", name="prometheus", ips=(ADDRESSES["prometheus"],)),
        Pod(namespace="sluicegate", name="stranger", ips=(ADDRESSES["stranger"],)),
    ]
    policies = []
    for item in objects:
        if item["kind"] == "NetworkPolicy":
            # Helm leaves the namespace to the installation.
            item["metadata"]["namespace"] = "sluicegate"
            policies.append(read_policy(item))
    return ClusterView(
        pods=(*pods, *others),
        namespaces={"sluicegate": {}, "kube-system": {}, "monitoring": {}},
        policies=tuple(policies),
    )


@pytest.mark.parametrize(
    ("source", "destination", "protocol", "port", "allowed"),
    [
        ("worker", "broker", "TCP", 9092, True),
        ("worker", "broker", "TCP", 22, False),
        ("worker", "dns", "UDP", 53, True),
        ("worker", "dns", "TCP", 53, True),
        ("worker", "apiserver", "TCP", 6443, False),
        ("worker", "apiserver", "TCP", 443, False),
        ("worker", "responder", "TCP", 9464, False),
        ("responder", "broker", "TCP", 9092, True),
        ("responder", "apiserver", "TCP", 6443, True),
        ("responder", "apiserver", "TCP", 443, True),
        ("responder", "stranger", "TCP", 80, False),
        ("inventory", "broker", "TCP", 9092, True),
        ("inventory", "apiserver", "TCP", 6443, True),
        ("inventory", "stranger", "TCP", 80, False),
        ("inventory", "responder", "TCP", 9464, False),
        ("topics", "broker", "TCP", 9092, True),
        ("topics", "apiserver", "TCP", 443, False),
        ("prometheus", "worker", "TCP", 9464, True),
        ("prometheus", "responder", "TCP", 9464, True),
        ("prometheus", "inventory", "TCP", 9464, True),
        ("prometheus", "topics", "TCP", 9464, False),
        ("prometheus", "worker", "TCP", 22, False),
        ("stranger", "worker", "TCP", 9464, False),
        ("stranger", "responder", "TCP", 9464, False),
        ("stranger", "inventory", "TCP", 9464, False),
        ("stranger", "topics", "TCP", 80, False),
    ],
)
def test_reach(
    view: ClusterView, source: str, destination: str, protocol: Protocol, port: int, *, allowed: bool
) -> None:
    verdict = evaluate(view, Flow(ADDRESSES[source], ADDRESSES[destination], protocol, port))
    assert verdict.allowed is allowed, verdict.text()
