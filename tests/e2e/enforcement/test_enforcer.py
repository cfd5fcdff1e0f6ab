"""The lab itself: a policy that the API server holds stops packets, and only those it should."""

from __future__ import annotations

import pytest

from tests.e2e.enforcement.conftest import Enforced
from tests.e2e.enforcement.probers import now
from tests.lab import pods

pytestmark = [pytest.mark.e2e, pytest.mark.lab, pytest.mark.timeout(300)]

WEB, ATTACKER = pods.BY_NAME["web"], pods.BY_NAME["attacker"]
CAST = ("web", "attacker", "client1")
DENY_INGRESS = {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]}


def test_a_policy_stops_packets_and_its_removal_lets_them_pass(enforced: Enforced) -> None:
    cluster = enforced(CAST)
    cluster.serve("web", "client1")
    attack = cluster.prober("attacker", "fresh", WEB.ip4)
    neighbour = cluster.prober("attacker", "fresh", pods.BY_NAME["client1"].ip4)
    own = cluster.prober("web", "fresh", pods.BY_NAME["client1"].ip4)
    assert not attack.failures()
    began = now()
    cluster.policy("shop", "closed", DENY_INGRESS)
    attack.closed(began)
    lifted = now()
    cluster.remove_policy("shop", "closed")
    attack.opened(lifted)
    for other in (neighbour, own):
        assert not other.failures(), other.name
