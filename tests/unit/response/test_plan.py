from __future__ import annotations

from dataclasses import replace
from typing import Any

import kubernetes_validate
import pytest
import yaml

from response.plan import Attempt, PlanContext, climb, load_actions
from response.prove import Proof
from response.render import manifests_yaml, proof_table
from response.settings import ResponseSettings
from schemas.finding import Endpoint
from schemas.policy.addresses import span_of_cidr
from schemas.policy.cluster import ClusterView
from schemas.response import ActionName, ResponseDecision
from tests.unit.response.cluster_cases import API, DB, DNS, NODE, OUTSIDE, VIEW, WEB, WEB_B, decision, end, policy

EXPIRES = "2027-01-15T08:10:00.000Z"
ALL: tuple[ActionName, ...] = ("block_egress_destination", "block_ingress_source", "quarantine_pod")
WIDER: tuple[ActionName, ...] = ("isolate_workload", "isolate_namespace", "allow_only_baseline", "demand_mtls")


def attempts(asked: ResponseDecision, view: ClusterView = VIEW) -> tuple[Attempt, ...]:
    return climb(PlanContext(asked, view, ResponseSettings(), EXPIRES))


def proven(asked: ResponseDecision, view: ClusterView = VIEW) -> tuple[list[dict[str, Any]], Proof]:
    last = attempts(asked, view)[-1]
    assert last.refusal is None, last.refusal
    assert last.plan is not None
    assert last.proof is not None
    return list(last.plan.manifests), last.proof


def reason(asked: ResponseDecision, view: ClusterView = VIEW) -> str:
    (only,) = attempts(asked, view)
    assert only.refusal is not None
    return only.refusal.reason


def test_the_listing_of_the_directory_is_the_registry() -> None:
    steps = ("detach_pod", "annotate", "notify", "evict_pod", "cordon_node", "capture_traffic")
    assert sorted(load_actions()) == sorted((*ALL, "rate_limit", "cut_on_node", *WIDER, "close_hole", *steps))
    for name, module in load_actions().items():
        assert name == module.NAME
        assert module.TITLE
        assert module.RBAC


def test_egress_to_an_outside_address_leaves_everything_else_open() -> None:
    (manifest,), proof = proven(decision("block_egress_destination"))
    assert manifest["metadata"] == {
        "name": "sluicegate-0123456789abcdef",
        "namespace": "shop",
        "labels": {"app.kubernetes.io/managed-by": "sluicegate", "sluicegate.io/response": "0123456789abcdef"},
        "annotations": {
            "sluicegate.io/alert": "alert-1",
            "sluicegate.io/decided-tick": "1800000000",
            "sluicegate.io/expires-at": EXPIRES,
            "sluicegate.io/reason": "port_scan_vertical: block egress to 203.0.113.9",
        },
    }
    assert manifest["spec"] == {
        "podSelector": {"matchLabels": {"app": "web"}},
        "policyTypes": ["Egress"],
        "egress": [
            {
                "to": [
                    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["203.0.113.9/32"]}},
                    {"ipBlock": {"cidr": "::/0"}},
                    {"namespaceSelector": {}},
                ]
            }
        ],
    }
    assert (proof.pods, proof.peers_cut) == (("shop/web-a", "shop/web-b"), ())
    assert {row.status for row in proof.dns} == {"kept"}


def test_egress_to_a_pod_excludes_its_workload_by_label_and_address() -> None:
    (manifest,), proof = proven(decision("block_egress_destination", victims=(end(DB, 5432, "TCP"),)))
    peers = manifest["spec"]["egress"][0]["to"]
    assert peers[:2] == [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.20/32"]}},
        {"ipBlock": {"cidr": "::/0", "except": ["fd00::20/128"]}},
    ]
    assert peers[2:] == [
        {"namespaceSelector": _expression("kubernetes.io/metadata.name", "shop")},
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}},
            "podSelector": _expression("app", "db"),
        },
    ]
    assert proof.peers_cut == ("shop/db-0",)


def _expression(key: str, value: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": "NotIn", "values": [value]}]}


def test_ingress_from_a_pod_of_another_namespace() -> None:
    asked = decision("block_ingress_source", attackers=(end(API),), victims=(end(DB, 5432, "TCP"),))
    (manifest,), proof = proven(asked)
    assert manifest["spec"]["podSelector"] == {"matchLabels": {"app": "db"}}
    assert proof.peers_cut == ("bank/api-a",)
    assert proof.attack[0].flow == "10.0.1.10 → 10.0.0.20 TCP/5432"
    assert proof.attack[0].before.startswith("open (")
    assert "isolated by shop/sluicegate-0123456789abcdef" in proof.attack[0].after


def test_several_attackers_are_excluded_from_one_policy() -> None:
    asked = decision("block_ingress_source", attackers=(end(API), end(WEB), OUTSIDE), victims=(end(DB),))
    (manifest,), proof = proven(asked)
    holes = manifest["spec"]["ingress"][0]["from"][0]["ipBlock"]["except"]
    assert holes == ["10.0.0.10/32", "10.0.0.11/32", "10.0.1.10/32", "203.0.113.9/32"]
    assert holes == sorted(holes, key=span_of_cidr)
    assert proof.peers_cut == ("bank/api-a", "shop/web-a", "shop/web-b")
    assert len(proof.attack) == 3


def test_several_victims_give_one_policy_for_each_workload() -> None:
    asked = decision("block_ingress_source", attackers=(OUTSIDE,), victims=(end(DB), end(API), end(DB)))
    manifests, proof = proven(asked)
    assert [item["metadata"]["namespace"] for item in manifests] == ["shop", "bank"]
    assert [item["metadata"]["name"] for item in manifests] == [
        "sluicegate-0123456789abcdef",
        "sluicegate-0123456789abcdef-1",
    ]
    assert proof.pods == ("shop/db-0", "bank/api-a")


def test_quarantine_labels_one_pod_and_isolates_it_in_both_directions() -> None:
    (written, labelled), proof = proven(decision("quarantine_pod", victims=()))
    assert written["spec"]["podSelector"] == {"matchLabels": {"sluicegate.io/quarantine": "0123456789abcdef"}}
    assert written["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in written["spec"]
    assert labelled["metadata"]["name"] == "web-a"
    assert labelled["metadata"]["labels"] == {"sluicegate.io/quarantine": "0123456789abcdef"}
    assert (proof.pods, proof.isolates) == (("shop/web-a",), True)
    assert proof.peers_cut == ("bank/api-a", "kube-system/coredns-1", "shop/db-0", "shop/web-b"), "it cannot be asked"


def test_undo_takes_the_label_off_before_the_policy_goes() -> None:
    plan = attempts(decision("quarantine_pod"))[-1].plan
    assert plan is not None
    assert [(step["step"], step["object"]["kind"]) for step in plan.undo] == [
        ("unlabel", "Pod"),
        ("delete", "NetworkPolicy"),
    ]
    assert "labels" not in plan.undo[0]["object"]["metadata"]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("attacker", [end(API), end(WEB)])
def test_every_manifest_is_valid_for_kubernetes_and_survives_yaml(name: ActionName, attacker: Endpoint) -> None:
    manifests, _ = proven(decision(name, attackers=(attacker,), victims=(end(DB, 5432, "TCP"),)))
    again = list(yaml.safe_load_all(manifests_yaml(manifests)))
    assert again == manifests
    for manifest in again:
        if manifest["kind"] == "NetworkPolicy":
            kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_equal_decisions_give_equal_bytes() -> None:
    asked = decision("block_ingress_source", attackers=(end(API), OUTSIDE), victims=(end(DB), end(WEB)))
    shuffled = replace(VIEW, pods=tuple(reversed(VIEW.pods)))
    assert manifests_yaml(proven(asked)[0]) == manifests_yaml(proven(asked)[0])
    assert manifests_yaml(proven(asked)[0]) == manifests_yaml(proven(asked, shuffled)[0])


def test_a_pod_that_is_isolated_and_allowed_is_never_opened_further() -> None:
    view = VIEW.with_policies(policy("shop/some", {"policyTypes": ["Egress"], "egress": [{"ports": [{"port": 443}]}]}))
    (first,) = attempts(decision("block_egress_destination"), view)
    assert first.refusal is not None
    assert first.refusal.reason == "not_blocked"
    assert "egress allowed by shop/some" in first.refusal.message
    assert first.proof is not None
    assert first.proof.counterexample is not None


def test_an_allow_all_except_policy_that_would_open_a_pod_is_refused_with_the_counterexample() -> None:
    # The attacked pod is one replica; another replica is isolated already and would be opened.
    view = VIEW.with_policies(policy("shop/tight", {"podSelector": {"matchLabels": {"pod-template-hash": "bb"}}}))
    asked = decision("block_ingress_source", attackers=(OUTSIDE,), victims=(end(WEB, 80, "TCP"),))
    (only,) = attempts(asked, view)
    assert only.refusal is not None
    assert only.refusal.reason == "widens"
    assert only.refusal.message == "shop/web-b would newly be allowed TCP/1 from 0.0.0.0"


def test_what_is_blocked_already_is_said_so() -> None:
    view = VIEW.with_policies(policy("shop/deny", {"policyTypes": ["Egress"]}))
    assert reason(decision("quarantine_pod"), view) == "already_blocked"


def test_an_attack_that_is_open_in_one_reading_is_not_called_blocked() -> None:
    block = {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}
    view = VIEW.with_policies(policy("shop/pods-by-address", {"policyTypes": ["Egress"], "egress": [block]}))
    _, proof = proven(decision("block_ingress_source", victims=(end(DB, 5432, "TCP"),)), view)
    assert proof.attack[0].was_open


def test_cutting_dns_is_refused_and_the_ladder_goes_on_to_quarantine() -> None:
    asked = decision("block_egress_destination", "quarantine_pod", victims=(end(DNS, 53, "UDP"),), kind="dns_tunnel")
    first, second = attempts(asked)
    assert first.refusal is not None
    assert first.refusal.reason == "dns_cut"
    assert second.refusal is None
    assert second.proof is not None
    assert {row.status for row in second.proof.dns} == {"cut"}


def test_a_protected_peer_is_not_cut() -> None:
    other = replace(DNS, name="metrics", labels={"app": "metrics"}, ips=("10.0.9.9",), workload="Deployment/metrics")
    asked = decision("block_egress_destination", victims=(end(other, 443, "TCP"),))
    assert reason(asked, replace(VIEW, pods=(*VIEW.pods, other))) == "protected_cut"


def test_quarantine_is_refused_where_another_policy_still_allows_something() -> None:
    view = VIEW.with_policies(
        policy("shop/allow", {"policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]})
    )
    (only,) = attempts(decision("quarantine_pod"), view)
    assert only.refusal is not None
    assert only.refusal.reason == "already_blocked"
    assert reason(decision("quarantine_pod", victims=()), view) == "not_isolated"


def test_an_attack_from_the_pods_own_node_cannot_be_blocked() -> None:
    asked = decision("quarantine_pod", victims=(Endpoint(ip=NODE[0], port=10250, protocol="TCP"),))
    assert reason(asked) == "not_blocked"


def test_an_attack_by_icmp_is_not_claimed_to_be_blocked() -> None:
    asked = decision("quarantine_pod", victims=(Endpoint(ip="203.0.113.9", port=0, protocol="ICMP"),))
    assert reason(asked) == "not_blocked"


def test_a_flood_under_others_addresses_isolates_the_pod_that_its_interface_proves() -> None:
    sender = end(WEB).model_copy(update={"interface": "veth1", "forged": (API.ips[0],)})
    asked = decision("rate_limit", "block_ingress_source", "cut_on_node", "quarantine_pod", kind="syn_flood",
                     attackers=(sender,), victims=(end(DB, 80, "TCP"),))  # fmt: skip
    *refused, last = attempts(asked)
    assert [one.refusal.reason for one in refused if one.refusal][1:2] == ["forges"]
    assert (last.action, last.refusal) == ("quarantine_pod", None)
    assert last.plan is not None
    assert last.plan.pods == ("shop/web-a",)


HOST = replace(WEB, name="agent", host_network=True, ips=NODE, labels={"app": "agent"})
OWN = replace(WEB, name="own", labels={"app.kubernetes.io/part-of": "sluicegate", "app": "own"}, ips=("10.0.0.77",))
BARE = replace(WEB, name="bare", labels={"pod-template-hash": "x"}, ips=("10.0.0.78",))
STRAY = replace(WEB, name="stray", labels={"app": "web"}, ips=("10.0.0.79",), workload="Deployment/other")
LARGE = replace(VIEW, pods=(*VIEW.pods, HOST, OWN, BARE), shared=(span_of_cidr("192.0.2.0/28"),))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (decision(*ALL, spoofable=True), "spoofable"),
        (decision(*ALL, attackers=()), "no_attacker"),
        (decision(*ALL, id="../../etc"), "bad_id"),
        (decision(*ALL, id="a" * 41), "bad_id"),
        (decision(), "no_action"),
        (decision("quarantine_pod", attackers=(OUTSIDE,)), "unknown_identity"),
        (decision("quarantine_pod", attackers=(OUTSIDE.model_copy(update={"identity": "known"}),)), "not_a_pod"),
        (decision("quarantine_pod", attackers=(end(replace(WEB, name="web-z")),)), "gone"),
        (decision("quarantine_pod", attackers=(end(replace(WEB, ips=("10.0.0.99",))),)), "identity_changed"),
        (decision("quarantine_pod", attackers=(end(HOST),)), "host_network"),
        (decision("quarantine_pod", attackers=(end(DNS),)), "protected"),
        (decision("quarantine_pod", attackers=(end(OWN),)), "own_component"),
        (decision("block_egress_destination", attackers=(end(BARE),)), "no_labels"),
        (decision("block_egress_destination", victims=(end(BARE),)), "no_labels"),
        (decision("block_egress_destination", victims=(Endpoint(ip="10.96.0.10"),)), "service_address"),
        (decision("block_egress_destination", victims=(Endpoint(ip=""),)), "no_address"),
        (decision("block_egress_destination", victims=()), "no_flow"),
        (decision("block_egress_destination", victims=(Endpoint(ip="not an address"),)), "unplannable"),
        (
            decision("block_ingress_source", attackers=(Endpoint(ip="192.0.2.3"),), victims=(end(DB),)),
            "shared_address",
        ),
        (
            decision("block_ingress_source", attackers=(Endpoint(ip=NODE[0]),), victims=(end(DB),)),
            "shared_address",
        ),
    ],
)
def test_guards_refuse_with_a_reason(asked: ResponseDecision, expected: str) -> None:
    assert reason(asked, LARGE) == expected


def test_labels_that_select_another_workload_are_refused() -> None:
    assert reason(decision("block_egress_destination"), replace(VIEW, pods=(*VIEW.pods, STRAY))) == "selects_others"


def test_a_pod_in_another_quarantine_is_left_to_it() -> None:
    view = VIEW.with_pod_labels("shop/web-a", {"sluicegate.io/quarantine": "earlier"})
    assert reason(decision("quarantine_pod"), view) == "already_quarantined"


def test_more_exclusions_than_a_policy_can_hold_are_refused() -> None:
    attackers = tuple(
        replace(API, name=f"api-{n}", ips=(f"10.0.2.{n}",), labels={"app": f"a{n}", "b": f"b{n}"}, workload=f"D/{n}")
        for n in range(8)
    )
    asked = decision("block_ingress_source", attackers=tuple(map(end, attackers)), victims=(end(DB),))
    assert reason(asked, replace(VIEW, pods=(*VIEW.pods, *attackers))) == "unplannable"


def test_the_table_says_what_was_proven() -> None:
    _, proof = proven(decision("block_egress_destination"))
    lines = proof_table(proof).splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == [
        "holds", "dialect", "pods", "attack", "allows new", "dns", "peers cut", "node",
    ]  # fmt: skip
    assert lines[0].split()[1] == "yes"
    assert lines[1].endswith("networkpolicy (evaluated with networkpolicy in force)")
    assert "shop/web-a, shop/web-b" in lines[2]
    assert "kept (4 paths)" in lines[5]


def test_replicas_of_both_revisions_are_contained() -> None:
    _, proof = proven(decision("block_egress_destination", attackers=(end(WEB_B),)))
    assert proof.pods == ("shop/web-a", "shop/web-b")
