"""A tunnel through the cluster's resolver: whom it is about, and that people decide about a pod's DNS."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.finding import Endpoint
from schemas.policy.cluster import Service
from tests.unit.response.cluster_cases import DB, DNS, NOW, VIEW, WEB, MemoryGateway, decision, end
from tests.unit.response.test_orders import RESPONSE, Desk

RESOLVER = Service("kube-system", "kube-dns", ("10.96.0.10",), {"k8s-app": "kube-dns"})
AT_SERVICE = Endpoint(ip="10.96.0.10", port=53, protocol="UDP", service="kube-system/kube-dns", identity="known")
TUNNEL = decision(
    "block_egress_destination", "quarantine_pod", mode="enforce", kind="dns_tunnel", victims=(AT_SERVICE,)
)  # fmt: skip


def desk() -> Desk:
    return Desk(gateway=MemoryGateway(replace(VIEW, services=(RESOLVER,))))


@pytest.mark.parametrize("victim", [AT_SERVICE, end(DNS, 53, "UDP")])
def test_cutting_a_pods_dns_waits_for_approval_and_the_subject_is_the_pod(victim: Endpoint) -> None:
    made = desk()
    told = made.decided(TUNNEL.model_copy(update={"victims": (victim,)}))
    assert [(item.action, item.outcome) for item in told] == [
        ("block_egress_destination", "refused"), ("quarantine_pod", "proposed"),
    ]  # fmt: skip
    assert (told[-1].reason, told[-1].target) == ("dns_approval", WEB.key)
    assert made.gateway.policies == {}
    first, *_, last = made.said("approve")
    assert (first, last) == ("approved approval", "applied proven")
    assert set(made.gateway.pod_metadata) == {WEB.key}


def test_repeats_and_restarts_go_on_waiting() -> None:
    made = desk()
    made.decided(TUNNEL)
    assert made.decided(TUNNEL, NOW + 5) == ()
    made.restart()
    made.decided(TUNNEL, NOW + 6)
    assert made.gateway.policies == {}
    known = made.responder.ledger.get(RESPONSE)
    assert known is not None
    assert known.phase == "proposed"


def test_the_resolver_itself_is_never_the_subject() -> None:
    made = desk()
    told = made.decided(TUNNEL.model_copy(update={"attackers": (end(DNS),)}))
    assert {(item.outcome, item.reason) for item in told} == {("refused", "protected")}


def test_other_attacks_are_answered_at_once_and_leave_the_pod_its_dns() -> None:
    made = desk()
    told = made.decided(decision("quarantine_pod", mode="enforce", victims=(end(DB, 5432, "TCP"),)))
    assert [item.outcome for item in told] == ["applied"]
    told = desk().decided(decision("quarantine_pod", mode="enforce", victims=(end(DB, 53, "UDP"),)))
    assert [item.outcome for item in told] == ["applied"]
