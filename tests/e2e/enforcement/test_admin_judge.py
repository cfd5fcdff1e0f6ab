"""Policies of administrators: an engine that shares no code with us agrees with the evaluator, and carries ours out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest

from response.kube import KubeGateway
from response.kube_kinds import resource
from response.settings import ResponseSettings
from schemas.policy.evaluator import evaluate
from schemas.policy.words import DIALECTS, Dialect
from schemas.response import ActionName
from tests.e2e import dialect_definitions
from tests.e2e.apiserver import ApiServer
from tests.e2e.enforcement import admin_worlds, worlds
from tests.e2e.enforcement.admin_worlds import GROUP, Generation
from tests.e2e.enforcement.conftest import Enforced, Respond, enforced_server, server_of
from tests.e2e.enforcement.decisions import decision
from tests.e2e.enforcement.judge import AdminJudge, ClusterJudge, Judge
from tests.e2e.enforcement.probers import now
from tests.lab import pods
from tests.lab.pods import BY_NAME

pytestmark = [pytest.mark.e2e, pytest.mark.lab, pytest.mark.timeout(600)]

JUDGES: Mapping[Generation, type[Judge]] = {"v1alpha1": AdminJudge, "v1alpha2": ClusterJudge}
DIALECT_OF: Mapping[Generation, Dialect] = {"v1alpha1": "adminnetworkpolicy", "v1alpha2": "clusternetworkpolicy"}
PLURALS = {
    "AdminNetworkPolicy": "adminnetworkpolicies", "BaselineAdminNetworkPolicy": "baselineadminnetworkpolicies",
    "ClusterNetworkPolicy": "clusternetworkpolicies",
}  # fmt: skip
WEB, API = BY_NAME["web"], BY_NAME["api"]
# Every pod comes in. Hosts outside as well would be more than such a policy can take back: quarantine is refused then.
OPEN = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{"from": [{"namespaceSelector": {}}]}],
        "egress": [{}]}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server that knows the administrators' kinds; the other modules' server does not."""
    running = enforced_server(tmp_path_factory.mktemp("administrators"))
    yield from server_of(dialect_definitions.served(running, GROUP))


def _kind(item: Mapping[str, Any]) -> Any:
    return resource(item["apiVersion"], item["kind"], PLURALS[item["kind"]], namespaced=False)


@pytest.mark.parametrize("generation", sorted(JUDGES))
def test_packets_pass_exactly_where_the_evaluator_says(generation: Generation, enforced: Enforced) -> None:
    cluster = enforced(worlds.CAST, ipv6=True, guard=JUDGES[generation])
    for port in worlds.PORTS:
        cluster.serve(*worlds.CAST, pods.OUTSIDE, port=port)
    gateway = KubeGateway(cluster.server.kubeconfig)
    try:
        for world in admin_worlds.WORLDS:
            objects = [policy.rendered(generation, number) for number, policy in enumerate(world.admin)]
            for item in objects:
                cluster.client.create(_kind(item).from_dict(item))
            for namespace, name, spec in world.policies:
                cluster.policy(namespace, name, spec)
            view = gateway.view().enforcing(frozenset({"networkpolicy", DIALECT_OF[generation]}))
            assert not view.unread
            expected = {flow: evaluate(view, flow).allowed for flow in worlds.flows()}
            assert set(expected.values()) == {True, False}, f"{world.name} does not tell enforcers apart"
            worlds.agree(cluster, expected, f"the judge of {generation} and the evaluator to agree on {world.name}")
            for namespace, name, _ in world.policies:
                cluster.remove_policy(namespace, name)
            for item in objects:
                cluster.client.delete(_kind(item), item["metadata"]["name"])
    finally:
        gateway.close()


ACTIONS: tuple[ActionName, ...] = ("quarantine_pod", "block_egress_destination", "block_ingress_source")


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("generation", sorted(JUDGES))
def test_ours_stops_what_namespaces_allow_and_its_undo_lets_it_pass(
    generation: Generation, action: ActionName, enforced: Enforced, respond: Respond
) -> None:
    cluster = enforced(("web", "api", "client1"), guard=JUDGES[generation])
    cluster.serve("web")
    # Somebody allows everything by a NetworkPolicy, which another NetworkPolicy cannot take back.
    cluster.policy("shop", "open", OPEN)
    attack = cluster.prober("api", "fresh", WEB.ip4)
    neighbour = cluster.prober("client1", "fresh", WEB.ip4)
    settled = now()
    for prober in (attack, neighbour):
        prober.opened(settled)
    before = cluster.objects()
    responder = respond(cluster, _settings(DIALECT_OF[generation]))
    began = now()
    (applied,) = responder.respond(decision(API, WEB, began, action), began)
    assert applied.outcome == "applied", applied.message
    assert (applied.proof or {})["dialect"] == DIALECT_OF[generation]
    attack.closed(began)
    lifted = now()
    (undone,) = responder.revert(applied.response_id, "alice", lifted)
    assert undone.outcome == "reverted", undone.message
    attack.opened(lifted)
    tried = neighbour.exchanges(began)
    # This judge sometimes loses the first packet of a connection while its view changes; a cut is more than one.
    assert not [one for one, next_one in pairwise(tried) if not one.ok and not next_one.ok]
    assert cluster.objects() == before


def _settings(dialect: Dialect) -> ResponseSettings:
    modes: dict[str, str] = {**dict.fromkeys(DIALECTS, "off"), "networkpolicy": "enforce", dialect: "enforce"}
    return ResponseSettings.model_validate({"dialects": modes})
