"""Policies that a cluster accepts and that stop nothing: each by its real cause, seen by packets alone."""

from __future__ import annotations

import pytest

from tests.e2e.enforcement.conftest import Enforced
from tests.e2e.enforcement.lab_cluster import LabCluster
from tests.e2e.enforcement.probers import Prober, now
from tests.lab import pods
from tests.lab.lab import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.lab, pytest.mark.timeout(300)]

WEB, ATTACKER, CLIENT = (pods.BY_NAME[name] for name in ("web", "attacker", "client1"))
CAST = ("web", "attacker", "client1")
DENY_INGRESS = {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]}
# As many exchanges as an enforcer that works closes a door in, many times over.
STILL_OPEN = 50


def still_open(prober: Prober, since: float) -> None:
    """Every one of many exchanges after a moment succeeds."""
    tried = prober.tries(STILL_OPEN, since)
    assert not [exchange for exchange in tried if not exchange.ok], f"{prober.name} was cut after all"


def close_web(cluster: LabCluster) -> float:
    """Forbid everything towards web; when that was asked for."""
    began = now()
    cluster.policy("shop", "closed", DENY_INGRESS)
    return began


def test_an_enforcer_that_stands_still_enforces_nothing_until_it_goes_on(enforced: Enforced) -> None:
    cluster = enforced(CAST)
    cluster.serve("web")
    attack = cluster.prober("attacker", "fresh", WEB.ip4)
    cluster.enforcer.pause()
    still_open(attack, close_web(cluster))
    resumed = now()
    cluster.enforcer.resume()
    attack.closed(resumed)


def test_a_dead_enforcer_leaves_its_last_rules_whatever_the_api_says(enforced: Enforced) -> None:
    cluster = enforced(CAST)
    cluster.serve("web")
    attack = cluster.prober("attacker", "fresh", WEB.ip4)
    attack.closed(close_web(cluster))
    cluster.enforcer.kill()
    lifted = now()
    cluster.remove_policy("shop", "closed")
    assert not any(exchange.ok for exchange in attack.tries(STILL_OPEN, lifted))
    cluster.enforcer.start()
    attack.opened(lifted)


def test_ipv6_that_the_enforcer_was_not_told_of_stays_open(enforced: Enforced) -> None:
    cluster = enforced(CAST)
    cluster.serve("web")
    four, six = (cluster.prober("attacker", "fresh", address) for address in (WEB.ip4, WEB.ip6))
    began = close_web(cluster)
    four.closed(began)
    still_open(six, began)


def test_an_enforcer_of_both_families_closes_both(enforced: Enforced) -> None:
    cluster = enforced(CAST, ipv6=True)
    cluster.serve("web")
    probers = [cluster.prober("attacker", "fresh", address) for address in (WEB.ip4, WEB.ip6)]
    began = close_web(cluster)
    for prober in probers:
        prober.closed(began)


def test_packets_that_a_bridge_forwards_unseen_pass_under_the_rules(enforced: Enforced) -> None:
    cluster = enforced(CAST)
    cluster.serve("web")
    cluster.filter_bridged(False)
    attack = cluster.prober("attacker", "fresh", WEB.ip4)
    before = cluster.enforcer.syncs()
    began = close_web(cluster)
    # The rules are there this time: the enforcer has done its part.
    wait_for(lambda: cluster.enforcer.syncs() > before, "the enforcer to write the rules", 20.0)
    still_open(attack, began)
    cluster.filter_bridged(True)
    attack.closed(now())


def test_a_connection_that_is_open_stays_open(enforced: Enforced) -> None:
    cluster = enforced(CAST)
    cluster.serve("web")
    held = cluster.prober("attacker", "held", WEB.ip4)
    new = cluster.prober("attacker", "fresh", WEB.ip4)
    began = close_web(cluster)
    new.closed(began)
    still_open(held, now())


def test_a_pod_that_starts_is_open_until_the_enforcer_has_heard_of_it(enforced: Enforced) -> None:
    """What the policy selects listens before its node has told the API server its address."""
    cluster = enforced(CAST)
    cluster.serve("web")
    isolated = {"podSelector": {"matchLabels": {"app": "late"}}, "policyTypes": ["Ingress"]}
    cluster.policy("shop", "closed", isolated)
    # The pod that is there gives its place to one that the policy selects.
    cluster.remove_pod(WEB)
    cluster.add_pod(WEB, {"app": "late"}, running=False)
    attack = cluster.prober("attacker", "fresh", WEB.ip4)
    still_open(attack, 0.0)
    told = now()
    cluster.run_pod(WEB.namespace, WEB.name, WEB)
    attack.closed(told)
