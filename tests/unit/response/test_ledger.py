"""The life of a containment as a state machine over the audit."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from response import ledger as module
from response.ledger import MOVES, STANDING, WAITING, Ledger, Phase, offender, replayed, time_to_live
from schemas.action import Action, Outcome
from schemas.response import ResponseDecision
from schemas.word import iso_time
from tests.unit.response.cluster_cases import NOW, OUTSIDE, WEB, WEB_B, decision, end

LADDER = (600, 3600, 86_400, 604_800)
_OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


def step(outcome: Outcome, at: float = NOW, asked: ResponseDecision | None = None, **more: Any) -> Action:
    asked = asked or decision("quarantine_pod", mode="approve")
    values: dict[str, Any] = {
        "id": f"{outcome}-{at}",
        "response_id": asked.id,
        "alert_id": asked.alert_id,
        "cluster": "test",
        "action": "quarantine_pod",
        "outcome": outcome,
        "mode": "approve",
        "target": "shop/web-a",
        "reason": "test",
        "message": "test",
        "decided_tick": NOW,
        "at": iso_time(at),
        "decision": asked,
    }
    return Action.model_validate({**values, **more})


def phase_after(*outcomes: Outcome) -> Phase | None:
    ledger = replayed(step(outcome, NOW + number) for number, outcome in enumerate(outcomes))
    known = ledger.get(decision().id)
    return known.phase if known is not None else None


@pytest.mark.parametrize(
    ("outcomes", "phase"),
    [
        (("proposed",), "proposed"),
        (("proposed", "approved", "applied"), "applied"),
        (("proposed", "rejected"), "rejected"),
        (("proposed", "rejected", "applied"), "rejected"),
        (("proposed", "rejected", "approved", "applied"), "applied"),
        (("applied", "effective", "quiet", "released"), "released"),
        (("applied", "ineffective", "effective"), "effective"),
        (("applied", "reverted", "applied", "proposed"), "reverted"),
        (("applied", "expired", "applied"), "applied"),
        (("applied", "cancelled", "applied"), "applied"),
        (("applied", "proposed"), "applied"),
        (("applied", "repaired", "extended", "drifted"), "applied"),
        (("effective",), None),
        (("refused", "observed"), None),
        (("failed", "applied"), "applied"),
        (("proposed", "expired", "missed"), "expired"),
    ],
)
def test_phases(outcomes: tuple[Outcome, ...], phase: Phase | None) -> None:
    assert phase_after(*outcomes) == phase


def test_every_phase_has_moves_and_every_move_ends_in_a_phase() -> None:
    phases = set(get_args(Phase))
    assert set(MOVES) == phases
    assert {end for moves in MOVES.values() for end in moves.values()} <= phases


def test_what_could_not_be_taken_back_still_stands() -> None:
    ledger = replayed([step("applied"), step("failed", NOW + 1, reason="not_reverted")])
    assert ledger.all(STANDING)
    ledger.fold(step("failed", NOW + 2, reason="forbidden"))
    assert not ledger.all(STANDING)


_steps = st.lists(st.tuples(st.sampled_from(_OUTCOMES), st.integers(0, 3)), max_size=25)


@given(_steps)
def test_a_refused_response_returns_only_by_approval(outcomes: list[tuple[Outcome, int]]) -> None:
    ledger, locked = Ledger(), False
    for number, (outcome, who) in enumerate(outcomes):
        asked = decision("quarantine_pod", id=f"r{who}")
        before = ledger.get(asked.id)
        ledger.fold(step(outcome, NOW + number, asked))
        after = ledger.get(asked.id)
        locked = before is not None and before.phase in ("rejected", "reverted")
        if locked and outcome != "approved":
            assert after is not None
            assert before is not None
            assert after.phase == before.phase
        if outcome == "applied" and not locked:
            assert after is not None
            assert after.phase == "applied"


@given(_steps, st.integers(0, 25))
def test_a_ledger_made_in_two_parts_is_the_same(outcomes: list[tuple[Outcome, int]], cut: int) -> None:
    actions = [step(what, NOW + n, decision("quarantine_pod", id=f"r{who}")) for n, (what, who) in enumerate(outcomes)]
    whole = replayed(actions)
    # What is written and read back is what was folded.
    parts = replayed([Action.decode(item.encode()) for item in actions[:cut]])
    for item in actions[cut:]:
        parts.fold(item)
    assert parts.all() == whole.all()


def test_approvals_of_one_person_count_once() -> None:
    ledger = replayed([step("proposed"), *(step("approved", NOW + n, operator="ana") for n in range(3))])
    (known,) = ledger.all(WAITING)
    assert known.approvals == ("ana",)


def test_who_comes_back_is_contained_longer_each_time() -> None:
    ledger, now, lasted = Ledger(), float(NOW), []
    for number in range(5):
        asked = decision("quarantine_pod", id=f"episode-{number}")
        level = ledger.level(asked, now, 86_400)
        lasted.append(time_to_live(asked.ttl_s, level, LADDER))
        ledger.fold(step("applied", now, asked, level=level))
        now += lasted[-1]
        ledger.fold(step("expired", now, asked))
        now += 60
    assert lasted == [600, 3600, 86_400, 604_800, 604_800]


def test_who_comes_back_late_or_is_somebody_else_begins_anew() -> None:
    ledger = replayed([step("applied"), step("expired", NOW + 600)])
    again = decision("quarantine_pod", id="later")
    assert ledger.level(again, NOW + 700, 86_400) == 1
    assert ledger.level(again, NOW + 600 + 86_401, 86_400) == 0
    other = decision("quarantine_pod", id="later", attackers=(OUTSIDE,))
    assert ledger.level(other, NOW + 700, 86_400) == 0


def test_a_revert_by_an_operator_is_no_relapse() -> None:
    ledger = replayed([step("applied"), step("reverted", NOW + 10)])
    assert ledger.level(decision(id="later"), NOW + 20, 86_400) == 0


def test_replicas_of_a_workload_are_one_offender() -> None:
    assert offender(decision(attackers=(end(WEB),))) == offender(decision(attackers=(end(WEB_B),)))


def test_a_ttl_longer_than_a_step_goes_on_with_longer_steps() -> None:
    assert [time_to_live(7200, level, LADDER) for level in range(4)] == [7200, 86_400, 604_800, 604_800]


def test_the_ledger_is_bounded_and_forgets_ended_ones_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONTAINMENTS", 3)
    ledger = Ledger()
    for number in range(3):
        ledger.fold(step("applied", NOW, decision(id=f"r{number}")))
    ledger.fold(step("expired", NOW + 1, decision(id="r1")))
    ledger.fold(step("applied", NOW + 2, decision(id="r3")))
    assert [item.response_id for item in ledger.all()] == ["r0", "r2", "r3"]
    assert ledger.dropped == 1


def test_allowed_and_stopped_are_folded_too() -> None:
    nothing: dict[str, Any] = {"response_id": "", "decision": None}
    ledger = replayed(
        [
            step("allowed", NOW, **nothing, target="192.0.2.0/24", operator="ana", expires_at=iso_time(NOW + 60)),
            step("allowed", NOW, **nothing, target="shop/*", operator="ana"),
            step("stopped", NOW, **nothing, message="stopped by ana"),
        ]
    )
    assert [item.target for item in ledger.allowed(NOW)] == ["192.0.2.0/24", "shop/*"]
    assert [item.target for item in ledger.allowed(NOW + 60)] == ["shop/*"]
    assert ledger.stopped == "stopped by ana"
    ledger.fold(step("disallowed", NOW, **nothing, target="shop/*"))
    ledger.fold(step("resumed", NOW, **nothing))
    assert (ledger.allowed(NOW + 60), ledger.stopped) == ((), "")
