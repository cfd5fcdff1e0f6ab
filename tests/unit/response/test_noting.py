"""annotate and notify: always possible, exact to undo, and never mistaken for a containment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from response.decide import decide, decide_besides
from response.objects import incident_key
from response.plan import contains, load_actions
from response.pod_steps import unmarks
from response.record import incident_record
from response.settings import BudgetSettings, ResponseSettings
from schemas.response import ActionName
from tests.unit.response.cluster_cases import DB, NOW, OUTSIDE, VIEW, WEB, MemoryGateway, decision, end
from tests.unit.response.test_decide import alert, policy
from tests.unit.response.test_orders import RESPONSE, Desk

NOTES: tuple[ActionName, ...] = ("annotate", "notify")


def test_a_note_is_written_on_attacker_and_victim_and_taken_back_exactly() -> None:
    desk = Desk()
    (action,) = desk.decided(decision("annotate", mode="enforce", victims=(end(DB),)))
    assert (action.outcome, action.reason, action.target) == ("applied", "nothing_to_prove", "shop/web-a, shop/db-0")
    assert set(desk.gateway.noted) == {"shop/web-a", "shop/db-0"}
    assert desk.gateway.view() == VIEW, "nothing that proofs look at has changed"
    assert desk.looked(NOW + 50) == []
    assert desk.said("revert") == ["reverted command"]
    assert not any(desk.gateway.noted.values())


def test_notes_of_several_responses_stand_beside_each_other() -> None:
    desk = Desk()
    desk.decided(decision("annotate", mode="enforce"))
    desk.decided(decision("annotate", mode="enforce", id="fedcba9876543210", ttl_s=3600))
    assert len(desk.gateway.noted["shop/web-a"]) == 2
    assert "expired expired" in desk.looked(NOW + 601)
    assert set(desk.gateway.noted["shop/web-a"]) == {incident_key("fedcba9876543210")}


def test_a_spoiled_note_is_expired() -> None:
    desk = Desk()
    desk.decided(decision("annotate", mode="enforce"))
    desk.gateway.noted["shop/web-a"][incident_key(RESPONSE)] = "no json"
    assert desk.looked(NOW + 1) == ["expired expired"]
    assert desk.gateway.noted["shop/web-a"] == {}


def test_the_label_goes_with_the_last_note() -> None:
    step = {"metadata": {"uid": "u", "labels": {"sluicegate.io/noted": None}, "annotations": {incident_key("a"): None}}}
    one = {"metadata": {"uid": "u", "annotations": {incident_key("a"): "{}", "theirs": "x"}}}
    two = {"metadata": {"uid": "u", "annotations": {incident_key("a"): "{}", incident_key("b"): "{}"}}}
    last, not_last = unmarks(step, one), unmarks(step, two)
    assert last is not None
    assert not_last is not None
    assert last["metadata"]["labels"] == {"sluicegate.io/noted": None}
    assert "labels" not in not_last["metadata"]
    assert unmarks(step, {"metadata": {"uid": "another"}}) is None


@pytest.mark.parametrize("name", NOTES)
def test_evidence_that_could_be_forged_is_no_reason_against_it(name: ActionName) -> None:
    *_, last = Desk().decided(decision("quarantine_pod", name, mode="enforce", spoofable=True))
    assert (last.action, last.outcome) == (name, "applied")


def test_telling_needs_no_pod_and_writes_nothing() -> None:
    gateway = MemoryGateway(fail_on=("apply Pod", "apply NetworkPolicy"))
    desk = Desk(gateway=gateway)
    told = desk.decided(decision("quarantine_pod", "annotate", "notify", mode="enforce", attackers=(OUTSIDE,)))
    assert [(item.action, item.outcome) for item in told] == [
        ("quarantine_pod", "refused"), ("annotate", "refused"), ("notify", "applied"),
    ]  # fmt: skip
    assert (told[-1].manifests, told[-1].undo, told[-1].target) == ((), (), OUTSIDE.ip)
    assert (gateway.policies, gateway.noted, gateway.events) == ({}, {}, [])
    assert desk.looked(NOW + 601)[-1] == "expired expired"


@pytest.mark.parametrize("name", NOTES)
def test_the_event_on_the_pod_does_not_call_it_contained(name: ActionName) -> None:
    desk = Desk()
    desk.decided(decision(name, mode="enforce"))
    (event,) = desk.gateway.events
    assert (event["reason"], event["involvedObject"]["name"]) == ("AttackNoted", "web-a")


@pytest.mark.parametrize("name", NOTES)
def test_a_deadline_is_missed_though_it_was_noted(name: ActionName) -> None:
    desk = Desk()
    desk.decided(decision(name, mode="enforce", ttl_s=3600))
    assert desk.looked(NOW + 59) == []
    assert desk.looked(NOW + 61) == ["missed deadline"]
    assert desk.looked(NOW + 120) == []


def test_what_is_done_besides_a_ladder_misses_no_deadline() -> None:
    besides = {"name": "told", "kinds": ["port_scan_*"], "mode": "enforce", "also": ["annotate"]}
    asked, file = alert(attackers=(end(WEB),)), policy(matrix=[besides])
    ladder = decide(asked, file)
    assert ladder is not None
    (note,) = decide_besides(asked, ladder, file)
    desk = Desk()
    assert [item.outcome for item in desk.decided(note)] == ["applied"]
    desk.decided(ladder.model_copy(update={"mode": "approve"}))
    late = ladder.decided_tick + ladder.deadline_s + 1
    assert [item.response_id for item in desk.responder.reconcile(late) if item.outcome == "missed"] == [ladder.id]


def test_no_flood_of_notes_uses_up_the_budgets_of_containments() -> None:
    desk = Desk(ResponseSettings(budgets=BudgetSettings(per_minute=1, cluster=1, per_namespace=1, stop_after=1)))
    for number in range(5):
        (action,) = desk.decided(decision("annotate", mode="enforce", id=f"note-{number}"))
        assert action.outcome == "applied", action.message
    (contained,) = desk.decided(decision("quarantine_pod", mode="enforce"))
    assert contained.outcome == "applied", contained.message


def test_a_note_never_takes_the_place_of_what_stands() -> None:
    assert [name for name in load_actions() if not contains(name)] == sorted((*NOTES, "cordon_node", "capture_traffic"))
    desk = Desk()
    desk.decided(decision("quarantine_pod", "annotate", mode="enforce"))
    assert desk.gateway.noted == {}


def test_the_record_does_not_call_it_contained() -> None:
    desk = Desk()
    told = desk.decided(decision("annotate", mode="enforce"))
    lessons = incident_record("alert-1", "test", None, (), told).lessons
    assert "nothing that stops it was applied: see the refusals below and the mode of the policy file" in lessons


@pytest.mark.parametrize("name", NOTES)
def test_from_the_policy_file_to_the_end_of_its_time(name: ActionName) -> None:
    row = {"name": "told", "kinds": ["port_scan_*"], "mode": "enforce", "actions": [name], "ttl_s": 600}
    asked = decide(alert(attackers=(end(WEB),)), policy(matrix=[row]))
    assert asked is not None
    desk = Desk()
    assert [item.outcome for item in desk.decided(asked)] == ["applied"]
    known = desk.responder.ledger.get(asked.id)
    assert known is not None
    assert (known.phase, known.action) == ("applied", name)
    assert desk.looked(NOW + 601)[-1] == "expired expired"
    assert not any(desk.gateway.noted.values())


def test_a_pod_that_is_protected_is_not_touched() -> None:
    view = replace(VIEW, pods=tuple(replace(pod, namespace="kube-system") for pod in VIEW.pods))
    attacker = end(WEB).model_copy(update={"namespace": "kube-system"})
    (action,) = Desk(gateway=MemoryGateway(view)).decided(decision("annotate", mode="enforce", attackers=(attacker,)))
    assert (action.outcome, action.reason) == ("refused", "protected")
