from __future__ import annotations

import pytest

from response.responder import MAX_REMEMBERED, STALE_AFTER_S, Responder
from response.settings import ResponseSettings
from schemas.action import Action
from tests.unit.response.cluster_cases import DB, DNS, NOW, MemoryGateway, decision, end, policy


def responder(gateway: MemoryGateway) -> Responder:
    return Responder(gateway, ResponseSettings(), "test")


def test_observe_only_records() -> None:
    gateway = MemoryGateway(fail_on=("managed",))
    (action,) = responder(gateway).respond(decision("quarantine_pod", mode="observe"), NOW)
    assert (action.outcome, action.reason, action.manifests) == ("observed", "observe", ())


def test_dry_run_proposes_with_manifests_undo_and_proof_and_writes_nothing() -> None:
    gateway = MemoryGateway()
    (action,) = responder(gateway).respond(decision("quarantine_pod"), NOW)
    assert (action.outcome, action.reason, action.target) == ("proposed", "dry_run", "shop/web-a")
    assert len(action.manifests) == len(action.undo) == 2
    assert action.proof is not None
    assert action.proof["holds"]
    assert gateway.policies == {}
    assert Action.decode(action.encode()) == action


def test_refusals_of_the_ladder_are_told_before_what_was_proven() -> None:
    asked = decision("block_egress_destination", "quarantine_pod", victims=(end(DNS, 53, "UDP"),))
    first, second = responder(MemoryGateway()).respond(asked, NOW)
    assert (first.action, first.outcome, first.reason) == ("block_egress_destination", "refused", "dns_cut")
    assert (second.action, second.outcome) == ("quarantine_pod", "proposed")


def test_repeats_are_told_once() -> None:
    told = responder(MemoryGateway())
    assert len(told.respond(decision("quarantine_pod"), NOW)) == 1
    assert told.respond(decision("quarantine_pod", alert_revision=2), NOW + 5) == ()


def test_a_revision_that_names_more_victims_is_told_again() -> None:
    gateway = MemoryGateway()
    acting = responder(gateway)
    asked = decision("block_egress_destination", mode="enforce")
    acting.respond(asked, NOW)
    more = asked.model_copy(update={"victims": (*asked.victims, end(DB)), "alert_revision": 2})
    (action,) = acting.respond(more, NOW + 5)
    assert (action.outcome, action.message) == ("applied", "block egress to 203.0.113.9, shop/db-0")
    (written,) = gateway.policies.values()
    assert written["spec"]["egress"][0]["to"][0]["ipBlock"]["except"] == ["10.0.0.20/32", "203.0.113.9/32"]


def test_enforce_applies_and_reverts_to_what_was() -> None:
    gateway = MemoryGateway()
    acting = responder(gateway)
    (applied,) = acting.respond(decision("quarantine_pod", mode="enforce"), NOW)
    assert applied.outcome == "applied", applied.message
    assert applied.expires_at == "2027-01-15T08:10:00.000Z"
    assert set(gateway.policies) == {"shop/sluicegate-0123456789abcdef"}
    assert set(gateway.pod_metadata) == {"shop/web-a"}
    (reverted,) = acting.revert("0123456789abcdef", "alice", NOW + 9)
    assert (reverted.outcome, reverted.operator, reverted.alert_id) == ("reverted", "alice", "alert-1")
    assert (reverted.decided_tick, reverted.undo) == (NOW, applied.undo)
    assert (gateway.policies, gateway.pod_metadata) == ({}, {})


def test_decisions_about_another_cluster_are_refused_whatever_their_mode() -> None:
    for mode in ("dry-run", "enforce", "observe"):
        gateway = MemoryGateway()
        asked = decision("quarantine_pod", mode=mode).model_copy(update={"cluster": "other"})
        (action,) = responder(gateway).respond(asked, NOW)
        assert (action.outcome, action.reason) == ("refused", "other_cluster")
        assert gateway.policies == {}


def test_what_an_operator_reverted_is_not_applied_again() -> None:
    acting = responder(MemoryGateway())
    acting.respond(decision("quarantine_pod", mode="enforce"), NOW)
    acting.revert("0123456789abcdef", "alice", NOW + 9)
    (action,) = acting.respond(decision("quarantine_pod", mode="enforce", alert_revision=2), NOW + 10)
    assert (action.outcome, action.reason) == ("refused", "reverted")


def test_expiry_is_by_the_time_given_and_an_ongoing_attack_is_contained_again() -> None:
    gateway = MemoryGateway()
    acting = responder(gateway)
    asked = decision("block_egress_destination", mode="enforce")
    acting.respond(asked, NOW)
    assert acting.expire(NOW + 599.9) == ()
    (expired,) = acting.expire(NOW + 600)
    assert (expired.outcome, gateway.policies) == ("expired", {})
    (again,) = acting.respond(asked, NOW + 601)
    # He came back, so it lasts an hour now.
    assert (again.outcome, again.expires_at, again.level) == ("applied", "2027-01-15T09:10:01.000Z", 1)


def test_a_repeat_does_not_prolong_what_is_applied() -> None:
    gateway = MemoryGateway()
    responder(gateway).respond(decision("block_egress_destination", mode="enforce"), NOW)
    before = dict(gateway.policies)
    (again,) = responder(gateway).respond(decision("block_egress_destination", mode="enforce"), NOW + 300)
    assert (again.outcome, again.expires_at) == ("applied", "2027-01-15T08:10:00.000Z")
    assert gateway.policies == before


@pytest.mark.parametrize("written", ["", "soon", "9999"])
def test_an_object_of_ours_without_readable_expiry_is_expired(written: str) -> None:
    gateway = MemoryGateway()
    acting = responder(gateway)
    acting.respond(decision("block_egress_destination", mode="enforce"), NOW)
    (manifest,) = gateway.policies.values()
    manifest["metadata"]["annotations"]["sluicegate.io/expires-at"] = written
    assert [action.outcome for action in acting.expire(NOW)] == ["expired"]


def test_the_earliest_expiry_among_the_objects_of_a_response_holds() -> None:
    gateway = MemoryGateway()
    acting = responder(gateway)
    acting.respond(decision("quarantine_pod", mode="enforce"), NOW)
    (manifest,) = gateway.policies.values()
    manifest["metadata"]["annotations"]["sluicegate.io/expires-at"] = "2027-01-15T08:05:00.000Z"
    assert acting.expire(NOW + 299) == ()
    assert [action.outcome for action in acting.expire(NOW + 300)] == ["expired"]


def test_approve_waits_and_then_enforces_once() -> None:
    gateway = MemoryGateway()
    acting = responder(gateway)
    (proposed,) = acting.respond(decision("quarantine_pod", mode="approve"), NOW)
    assert (proposed.outcome, proposed.reason, gateway.policies) == ("proposed", "awaiting_approval", {})
    (unknown,) = acting.approve("unknown", "bob", NOW)
    assert (unknown.outcome, unknown.reason) == ("refused", "not_waiting")
    approved, applied = acting.approve("0123456789abcdef", "bob", NOW + 30)
    assert (approved.outcome, approved.operator, approved.message) == ("approved", "bob", "approved by bob, 1 of 1")
    assert (applied.outcome, applied.mode, applied.operator) == ("applied", "enforce", "bob")
    (again,) = acting.approve("0123456789abcdef", "bob", NOW + 31)
    assert (again.outcome, again.reason) == ("refused", "not_waiting")


def test_a_step_that_fails_takes_the_earlier_ones_back() -> None:
    gateway = MemoryGateway(fail_on=("apply Pod",))
    (action,) = responder(gateway).respond(decision("quarantine_pod", mode="enforce"), NOW)
    assert (action.outcome, action.reason, action.message) == ("failed", "forbidden", "cannot apply Pod: no")
    assert (gateway.policies, gateway.pod_metadata) == ({}, {})


def test_a_failure_that_leaves_something_behind_says_so() -> None:
    gateway = MemoryGateway(fail_on=("apply Pod", "undo delete"))
    (action,) = responder(gateway).respond(decision("quarantine_pod", mode="enforce"), NOW)
    assert action.outcome == "failed"
    assert action.message == "cannot apply Pod: no; and could not be taken back: cannot undo delete: no"


def test_what_could_not_be_taken_back_is_said() -> None:
    gateway = MemoryGateway()
    acting = responder(gateway)
    acting.respond(decision("quarantine_pod", mode="enforce"), NOW)
    gateway.fail_on = ("undo delete",)
    (failed,) = acting.expire(NOW + 600)
    assert (failed.outcome, failed.reason, failed.message) == ("failed", "not_reverted", "cannot undo delete: no")


def test_a_policy_that_appears_meanwhile_and_spoils_the_proof_is_noticed() -> None:
    opening = policy("shop/open", {"policyTypes": ["Egress"], "egress": [{}]})
    gateway = MemoryGateway(meanwhile=opening)
    (action,) = responder(gateway).respond(decision("block_egress_destination", mode="enforce"), NOW)
    assert (action.outcome, action.reason) == ("failed", "not_blocked")
    assert action.message.startswith("after applying: ")
    assert gateway.policies == {}


def test_a_decision_that_is_history_is_not_enforced() -> None:
    asked = decision("quarantine_pod", mode="enforce")
    late = NOW + asked.deadline_s + STALE_AFTER_S
    gateway = MemoryGateway()
    (action,) = responder(gateway).respond(asked, late + 1)
    assert (action.outcome, action.reason, gateway.policies) == ("refused", "stale", {})
    (applied,) = responder(gateway).respond(asked, late)
    assert applied.outcome == "applied"


def test_a_cluster_that_cannot_be_listed_is_a_failed_action() -> None:
    (action,) = responder(MemoryGateway(fail_on=("managed",))).expire(NOW)
    assert (action.outcome, action.reason, action.response_id) == ("failed", "forbidden", "")


def test_what_is_remembered_is_bounded() -> None:
    told = responder(MemoryGateway())
    for number in range(MAX_REMEMBERED + 5):
        told.respond(decision(mode="observe", id=f"r{number}"), NOW)
    assert told.respond(decision(mode="observe", id=f"r{MAX_REMEMBERED}"), NOW) == ()
    assert len(told.respond(decision(mode="observe", id="r0"), NOW)) == 1


def test_equal_inputs_give_equal_bytes() -> None:
    runs = [
        b"".join(a.encode() for a in responder(MemoryGateway()).respond(decision("quarantine_pod"), NOW))
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
