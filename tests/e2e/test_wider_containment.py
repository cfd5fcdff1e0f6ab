"""Workloads, namespaces and baselines on a real API server: stored as proven with the rights asked for, then gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from response.edges import EdgeMemory
from response.responder import Responder
from response.settings import ResponseSettings
from schemas.edge import Edge
from schemas.finding import Endpoint
from schemas.response import ActionName
from tests.e2e.conftest import Cluster
from tests.e2e.test_containment import ATTACKER, NOW, READ_RULES, _rules, decision

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

WIDER: tuple[ActionName, ...] = ("isolate_workload", "isolate_namespace", "allow_only_baseline")
VICTIM = "198.18.7.20"


@pytest.fixture
def lab(cluster: Cluster) -> Cluster:
    cluster.pod("web-1", ATTACKER, {"app": "web"})
    cluster.pod("db-1", VICTIM, {"app": "db"})
    return cluster


def usual(namespace: str) -> EdgeMemory:
    """The attacker's usual peers: the database, which it now attacks, and one address outside."""
    memory = EdgeMemory()
    for peer, port in ((f"{namespace}/Pod/db-1", 5432), ("198.18.99.9", 443)):
        memory.take(
            Edge(
                cluster="e2e", node="n", namespace=namespace, workload="Pod/web-1", hour=NOW // 3600 * 3600, peer=peer,
                port=port, protocol="TCP", initiated=True, flows=1, bytes_sent=1, bytes_received=1,
            )
        )  # fmt: skip
    return memory


@pytest.mark.parametrize("name", WIDER)
def test_it_is_applied_as_it_was_proven_and_taken_back(
    lab: Cluster, kubeconfig_with: Callable[[Sequence[Mapping[str, Any]]], Path], name: ActionName
) -> None:
    before = lab.policies()
    gateway = lab.gateway(kubeconfig_with([*READ_RULES, *_rules(name)]))
    acting = Responder(gateway, ResponseSettings(), "", edges=usual(lab.namespace))
    victim = Endpoint(ip=VICTIM, port=5432, protocol="TCP", pod="db-1", namespace=lab.namespace, identity="known")
    asked = decision(lab, "enforce", name).model_copy(update={"victims": (victim,)})
    (action,) = acting.respond(asked, NOW)
    assert action.outcome == "applied", action.message
    (applied,) = lab.policies().values()
    assert applied["spec"] == action.manifests[0]["spec"]
    if name == "allow_only_baseline":
        assert applied["spec"]["egress"][0]["to"] == [{"ipBlock": {"cidr": "198.18.99.9/32"}}]
        assert "'db'" not in str(applied["spec"])
    (reverted,) = acting.revert(action.response_id, "alice", NOW + 5)
    assert reverted.outcome == "reverted", reverted.message
    assert lab.policies() == before
