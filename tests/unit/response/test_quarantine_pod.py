"""quarantine_pod by its settings: DNS kept or cut, and the Services that a pod leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from response.settings import QuarantineSettings, ResponseSettings
from schemas.action import Action
from schemas.policy.cluster import ClusterView, Controller, Pod, Service
from schemas.policy.labels import LabelSelector
from tests.unit.response.cluster_cases import DB, DNS, NOW, VIEW, WEB, MemoryGateway, decision, end, policy
from tests.unit.response.test_orders import RESPONSE, Desk

SCAN = decision("quarantine_pod", mode="enforce", victims=(end(DB, 5432, "TCP"),))
ASK = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ],
    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
}


def desk(
    view: ClusterView = VIEW, dns: Literal["keep", "cut"] = "keep", services: Literal["stay", "leave"] = "stay",
    **more: Any,
) -> Desk:  # fmt: skip
    settings = ResponseSettings(quarantine=QuarantineSettings(dns=dns, services=services), **more)
    return Desk(settings, MemoryGateway(view))


def applied(made: Desk) -> Action:
    (action,) = made.decided(SCAN)
    assert action.outcome == "applied", action.message
    assert made.looked(NOW + 1) == [], "what was just applied holds"
    return action


def written(made: Desk) -> Any:
    (found,) = made.gateway.policies.values()
    return found["spec"]


def test_what_it_may_ask_of_the_resolver_it_may_go_on_asking() -> None:
    made = desk()
    proof = applied(made).proof
    assert written(made)["egress"] == [ASK]
    assert proof is not None
    assert (proof["spares_dns"], {row["status"] for row in proof["dns"]}) == (True, {"kept"})


def test_packets_to_the_resolver_are_no_attempts_against_it() -> None:
    service = Service("kube-system", "kube-dns", ("10.96.0.10",), {"k8s-app": "kube-dns"})
    watched = applied(desk(replace(VIEW, services=(service,)))).watch
    assert watched
    assert all({"10.0.9.53/32", "10.96.0.10/32"} <= set(pair.spared) for pair in watched)


def test_only_what_was_open_is_kept() -> None:
    """The namespace lets UDP through and nothing else: TCP would be new."""
    udp: dict[str, Any] = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [
        {"to": ASK["to"], "ports": [{"protocol": "UDP", "port": 53}]},
        {"to": [{"podSelector": {"matchLabels": {"app": "db"}}}]},
    ]}  # fmt: skip
    made = desk(VIEW.with_policies(policy("shop/strict", udp)))
    # What the other policy allows to the database stays, so it is refused; what it would write is what counts here.
    (action,) = made.decided(SCAN.model_copy(update={"mode": "dry-run"}))
    assert action.reason == "not_blocked"
    only = {**udp, "egress": udp["egress"][:1]}
    outward = decision("quarantine_pod", mode="enforce", attackers=(end(WEB),), victims=())
    made = desk(VIEW.with_policies(policy("shop/strict", only)))
    (action,) = made.decided(outward)
    assert action.outcome == "applied", action.message
    assert written(made)["egress"][0]["ports"] == [{"protocol": "UDP", "port": 53}]


def test_a_pod_that_could_not_ask_is_not_given_it() -> None:
    closed = {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"]}
    made = desk(VIEW.with_policies(policy("shop/closed", closed)))
    (action,) = made.decided(decision("quarantine_pod", mode="enforce", victims=()))
    assert action.outcome == "applied", action.message
    assert "egress" not in written(made)


def test_outside_resolvers_are_kept_by_address() -> None:
    made = desk(replace(VIEW, pods=(WEB, DB)), dns_addresses=("192.0.2.53",))
    applied(made)
    assert written(made)["egress"][0]["to"] == [{"ipBlock": {"cidr": "192.0.2.53/32"}}]


def test_cutting_dns_needs_approval() -> None:
    made = desk(dns="cut")
    (action,) = made.decided(SCAN)
    assert (action.outcome, action.reason) == ("proposed", "dns_approval")
    assert made.gateway.policies == {}
    assert made.said("approve")[-1] == "applied proven"
    assert "egress" not in written(made)


def test_an_attack_through_the_resolver_is_not_left_open_by_it() -> None:
    made = desk()
    (action,) = made.decided(decision("quarantine_pod", mode="enforce", victims=(end(DNS, 53, "UDP"),)))
    assert (action.outcome, action.reason) == ("proposed", "dns_approval")
    assert "egress" not in action.manifests[0]["spec"]


SUSPECT = replace(
    WEB, labels={**WEB.labels, "tier": "front", "zone": "a"}, uid="uid-1", controller="ReplicaSet/web-aa"
)  # fmt: skip
BARE = replace(SUSPECT, controller="", workload="")
FRONT = Service("shop", "front", ("10.96.0.20",), {"app": "web", "tier": "front"})
SHOP = Service("shop", "web", ("10.96.0.21",), {"app": "web"})
ELSEWHERE = Service("bank", "web", ("10.96.0.22",), {"zone": "a"})


def owner(kind: str, name: str, **labels: str) -> Controller:
    return Controller("shop", kind, name, LabelSelector(match_labels=labels))


SET = owner("ReplicaSet", "web-aa", app="web")


def leaving(pod: Pod, *owners: Controller) -> Desk:
    pods = (pod, *(item for item in VIEW.pods if item.key != pod.key))
    made = desk(replace(VIEW, pods=pods, services=(*VIEW.services, FRONT, SHOP, ELSEWHERE)), services="leave")
    made.gateway.owners = owners
    return made


def test_it_leaves_services_by_labels_that_its_controller_does_not_need() -> None:
    made = leaving(SUSPECT, SET)
    action = applied(made)
    assert action.message == (
        "quarantine shop/web-a, out of Service front, still in Service web, which needs labels of its controller"
    )
    labels = made.gateway.pod_metadata["shop/web-a"]["labels"]
    assert labels == {"tier": None, "sluicegate.io/quarantine": RESPONSE}
    assert made.said("revert") == ["reverted command"]
    assert (made.gateway.pod_metadata, made.gateway.deleted) == ({}, [])


def test_undo_gives_the_labels_back_and_takes_all_of_ours() -> None:
    made = leaving(SUSPECT, SET)
    step = applied(made).undo[0]
    assert (step["step"], step["object"]["metadata"]["uid"]) == ("restore", "uid-1")
    given = made.gateway.pod_metadata["shop/web-a"]
    assert step["object"]["metadata"]["labels"] == {"tier": "front", "sluicegate.io/quarantine": None}
    assert set(given["annotations"]) <= set(step["object"]["metadata"]["annotations"])
    (managed,) = made.gateway.managed()
    assert managed.undo[0] == step, "read back from the pod it is the same"


def test_a_pod_without_owner_leaves_all_of_them() -> None:
    made = leaving(BARE)
    assert "still" not in applied(made).message
    assert set(made.gateway.pod_metadata["shop/web-a"]["labels"]) == {"app", "tier", "sluicegate.io/quarantine"}


@pytest.mark.parametrize(
    ("pod", "owners"),
    [
        (SUSPECT, ()),  # of a kind that nobody reads
        (replace(SUSPECT, uid=""), (SET,)),
        (BARE, (owner("Job", "greedy", zone="a"),)),  # would own it
    ],
)
def test_where_it_is_not_known_to_be_safe_it_stays_in_them_and_says_so(pod: Pod, owners: tuple[Controller]) -> None:
    made = leaving(pod, *owners)
    assert "still in Service front, web" in applied(made).message
    assert made.gateway.pod_metadata["shop/web-a"]["labels"] == {"sluicegate.io/quarantine": RESPONSE}
