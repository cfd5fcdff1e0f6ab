"""Policies that others wrote before us, write after us, and write over ours."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest
from lightkube import ApiError

from response.kube_kinds import RawNetworkPolicy, RawPod
from response.ledger import STANDING
from response.objects import MANAGED_LABEL, MANAGER
from response.settings import UpkeepSettings
from tests.e2e.enforcement import worlds
from tests.e2e.enforcement.conftest import Enforced, Respond
from tests.e2e.enforcement.decisions import decision
from tests.e2e.enforcement.lab_cluster import LabCluster
from tests.e2e.enforcement.probers import now
from tests.lab.lab import wait_for
from tests.lab.pods import BY_NAME

pytestmark = [pytest.mark.e2e, pytest.mark.lab, pytest.mark.timeout(300)]

WEB, API, DB, CLIENT, ATTACKER = (BY_NAME[name] for name in ("web", "api", "db", "client1", "attacker"))
NAMES = 53
DATABASE = 5432
# A second policy, as a team needs one beside the template for its database to be reached at all.
DATABASE_IN = {
    "podSelector": worlds.app("database"),
    "policyTypes": ["Ingress"],
    "ingress": [{"from": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": DATABASE}]}],
}
QUARANTINE = {"podSelector": {"matchLabels": {"hand-made": "quarantine"}}, "policyTypes": ["Ingress", "Egress"]}
DEFAULT_DENY = {"podSelector": {}, "policyTypes": ["Egress"]}


def template(cluster: LabCluster) -> None:
    """The namespace of the shop as the production template has it."""
    cluster.client.patch(RawPod, DB.name, {"metadata": {"labels": {"app": "database"}}}, namespace=DB.namespace)
    cluster.policy("shop", "template", worlds.TEMPLATE)
    cluster.policy("shop", "database", DATABASE_IN)


def test_under_the_production_template_a_naive_quarantine_cuts_nothing(enforced: Enforced) -> None:
    """Label the pod, forbid everything to the label: what the template allows stays allowed."""
    cluster = enforced(("api", "db", "web"))
    cluster.serve("db", port=DATABASE)
    cluster.serve("web")
    cluster.serve("outside", port=NAMES)
    began = now()
    template(cluster)
    cluster.prober("api", "fresh", WEB.ip4).closed(began)  # the template is in force
    database = cluster.prober("api", "fresh", DB.ip4, DATABASE)
    names = cluster.prober("api", "fresh", "192.0.2.100", NAMES)
    synced, began = cluster.enforcer.syncs(), now()
    cluster.client.patch(RawPod, API.name, {"metadata": {"labels": {"hand-made": "quarantine"}}}, namespace="shop")
    cluster.policy("shop", "hand-made", QUARANTINE)
    wait_for(lambda: cluster.enforcer.syncs() >= synced + 2, "the enforcer to know of label and policy", 20.0)
    for prober in (database, names):
        assert all(exchange.ok for exchange in prober.tries(50, now())), prober.name
        assert not prober.failures(began)


def test_under_the_production_template_ours_refuses_what_would_cut_nothing(
    enforced: Enforced, respond: Respond
) -> None:
    """Each rung names its reason, and the cluster is untouched."""
    cluster = enforced(("api", "db"))
    template(cluster)
    before = cluster.objects()
    asked = decision(API, DB, now(), "quarantine_pod", "block_egress_destination", "block_ingress_source",
                     port=DATABASE)  # fmt: skip
    actions = respond(cluster).respond(asked, now())
    assert [(action.action, action.outcome, action.reason) for action in actions] == [
        ("quarantine_pod", "refused", "not_blocked"),
        ("block_egress_destination", "refused", "not_blocked"),
        ("block_ingress_source", "refused", "not_blocked"),
    ]
    assert cluster.objects() == before


def test_what_a_later_default_deny_turns_into_a_hole_is_taken_back(enforced: Enforced, respond: Respond) -> None:
    """`All but the victim` narrows an open pod, and opens a closed one: the next look must end it."""
    cluster = enforced(("api", "db", "web"))
    cluster.serve("db", "web")
    responder = respond(cluster)
    began = now()
    (action,) = responder.respond(decision(API, DB, began, "block_egress_destination"), began)
    assert action.outcome == "applied", action.message
    attack = cluster.prober("api", "fresh", DB.ip4)
    attack.closed(began)
    other = cluster.prober("api", "fresh", WEB.ip4)
    synced = cluster.enforcer.syncs()
    cluster.policy("shop", "default-deny", DEFAULT_DENY)
    wait_for(lambda: cluster.enforcer.syncs() > synced, "the enforcer to know of the default-deny", 20.0)
    # The hole is real for as long as nobody looks.
    assert all(exchange.ok for exchange in other.tries(25, now()))
    looked = now()
    ended, *more = responder.reconcile(looked)
    # The victim is closed without us now, so all that our policy still does is to allow the others.
    assert (ended.outcome, ended.reason) == ("cancelled", "already_blocked")
    other.closed(looked)
    assert not any(exchange.ok for exchange in attack.tries(10, looked))
    assert [item.outcome for item in more] == ["refused"], "the default-deny has closed it already"


def prune(cluster: LabCluster, namespace: str) -> list[str]:
    """What a GitOps controller does at each sync: delete what its repository does not have; the names of these."""
    ours = []
    for key, policy in cluster.policies().items():
        if key.startswith(f"{namespace}/") and policy["metadata"].get("labels", {}).get(MANAGED_LABEL) == MANAGER:
            cluster.client.delete(RawNetworkPolicy, policy["metadata"]["name"], namespace=namespace)
            ours.append(key)
    return ours


def test_a_controller_that_reverts_us_is_fought_a_few_times_and_then_respected(
    enforced: Enforced, respond: Respond
) -> None:
    """Nothing is called contained that is not there: the last word is `cancelled`, with the reason."""
    cluster = enforced(("api", "db"))
    cluster.serve("db")
    attack = cluster.prober("api", "fresh", DB.ip4)
    responder = respond(cluster)
    before = cluster.objects()
    began = now()
    (action,) = responder.respond(decision(API, DB, began, "block_egress_destination"), began)
    assert action.outcome == "applied", action.message
    told: list[tuple[str, str]] = []
    for _ in range(UpkeepSettings().repairs + 1):
        attack.closed(now())
        pruned = now()
        assert prune(cluster, "shop")
        attack.opened(pruned)
        told += [(step.outcome, step.reason) for step in responder.reconcile(now())]
    assert told == [("repaired", "drift")] * UpkeepSettings().repairs + [("cancelled", "contested")]
    assert cluster.objects() == before
    assert responder.ledger.all(STANDING) == ()


def test_a_controller_that_is_faster_than_us_leaves_nothing_that_is_called_contained(
    enforced: Enforced, respond: Respond
) -> None:
    """It prunes between our write and our look at it."""
    cluster = enforced(("api", "db"))
    responder = respond(cluster)
    before = cluster.objects()
    began = now()
    stop = threading.Event()

    def sync() -> None:
        while not stop.wait(0.02):
            with suppress(ApiError):  # what we have taken back ourselves meanwhile
                prune(cluster, "shop")

    thread = threading.Thread(target=sync)
    thread.start()
    try:
        responder.respond(decision(API, DB, began, "block_egress_destination"), began)
        looks = 0
        while responder.ledger.all(STANDING):
            looks += 1
            assert looks <= UpkeepSettings().repairs + 1, "fought for ever"
            responder.reconcile(now())
    finally:
        stop.set()
        thread.join()
    assert cluster.objects() == before
