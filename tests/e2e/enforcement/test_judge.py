"""Two enforcers that share no code with us, or with each other, agree with the evaluator on who may talk to whom."""

from __future__ import annotations

import pytest

from response.kube import KubeGateway
from schemas.policy.evaluator import evaluate
from tests.e2e.enforcement import worlds
from tests.e2e.enforcement.conftest import Enforced
from tests.e2e.enforcement.enforcer import Enforcer
from tests.e2e.enforcement.judge import Judge

pytestmark = [pytest.mark.e2e, pytest.mark.lab, pytest.mark.timeout(600)]


@pytest.mark.parametrize("guard", [Judge, Enforcer])
def test_packets_pass_exactly_where_the_evaluator_says(guard: type[Judge] | type[Enforcer], enforced: Enforced) -> None:
    """All pairs of pods and ports of each world, by new connections; both families."""
    cluster = enforced(worlds.CAST, ipv6=True, guard=guard)
    cluster.serve(*worlds.CAST, "outside", port=worlds.PORTS[0])
    cluster.serve(*worlds.CAST, "outside", port=worlds.PORTS[1])
    gateway = KubeGateway(cluster.server.kubeconfig)
    try:
        for world in worlds.WORLDS:
            for namespace, name, spec in world.policies:
                cluster.policy(namespace, name, spec)
            view = gateway.view()
            expected = {flow: evaluate(view, flow).allowed for flow in worlds.flows()}
            assert set(expected.values()) == world.verdicts, f"{world.name} does not tell enforcers apart"
            worlds.agree(cluster, expected, f"{guard.__name__} and the evaluator to agree on {world.name}")
            for namespace, name, _ in world.policies:
                cluster.remove_policy(namespace, name)
    finally:
        gateway.close()
