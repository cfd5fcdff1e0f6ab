"""What packets prove of a containment, and what follows where it does not contain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from response.ledger import STANDING, Containment, Phase
from response.plan import contains, cuts_attackers, load_actions
from response.prove import AttackPair
from response.settings import ResponseSettings
from response.verify import Verdict, Verification
from response.verify_settings import VerifySettings
from response.watching import watch_pairs
from schemas.action import Action
from schemas.watch import MAX_PAIRS, WatchRow
from tests.unit.response.cluster_cases import DB, NOW, VIEW, WEB, decision, end, policy
from tests.unit.response.test_orders import RESPONSE, TWO, Desk

LADDER = decision("block_egress_destination", "quarantine_pod", mode="enforce", victims=(end(DB, 5432, "TCP"),))


def row(at: int, attempts: int = 0, answered: int = 0, *, unsure: int = 0, node: str = "n1", **more: Any) -> WatchRow:
    """What a node saw in the tick that ends ``at`` s after NOW."""
    moment = (NOW + at) * 10**9
    fields: dict[str, Any] = {
        "cluster": "test", "response_id": RESPONSE, "node": node, "tick": NOW + at, "attempts": attempts,
        "answered": answered, "unsure": unsure, "last_packet": moment if attempts else 0,
        "last_answered": moment if answered else 0,
    }  # fmt: skip
    return WatchRow(**{**fields, **more})


def standing(phase: Phase = "applied") -> Containment:
    return Containment(RESPONSE, phase, NOW, applied_at=NOW)


def judged(rows: Iterable[WatchRow], now: float, phase: Phase = "applied") -> list[Verdict]:
    verification = Verification(VerifySettings())
    verification.follow([standing(phase)])
    for item in rows:
        verification.observe(item)
    return list(verification.judge([standing(phase)], NOW + now))


def status(rows: Iterable[WatchRow], now: float, phase: Phase = "applied") -> str | None:
    found = judged(rows, now, phase)
    return found[0].status if found else None


def test_attempts_that_are_no_longer_answered_are_effective() -> None:
    rows = [row(1, 2, 2), row(2, 1), row(3, 1), row(4), row(5), row(6, 1)]
    (found,) = judged(rows, 6.5)
    assert (found.status, found.why.reason, found.answered_for) == ("effective", "unanswered", 1.0)
    assert found.why.message == "3 attempts were not answered; the last answer came 1.0 s after it was applied"


def test_attempts_that_never_were_answered_are_effective() -> None:
    (found,) = judged([row(at, 1) for at in range(1, 7)], 7)
    assert (found.status, found.answered_for) == ("effective", None)
    assert "none ever was" in found.why.message


def test_too_few_attempts_or_too_short_a_time_say_nothing_yet() -> None:
    assert status([row(1, 1), row(6, 1)], 7) is None
    assert status([row(1, 9), row(4)], 5) is None


def test_no_attempts_are_quiet_and_prove_nothing() -> None:
    assert status([row(at) for at in range(1, 121)], 121) == "quiet"
    assert status([row(at) for at in range(1, 120)], 120) is None
    (found,) = judged([row(at) for at in range(1, 121)], 121)
    assert found.why.reason == "no_attempts"


def test_an_attack_that_stops_after_it_was_cut_becomes_quiet() -> None:
    rows = [row(at, 1 if at < 10 else 0) for at in range(1, 130)]
    assert status(rows[:20], 21) == "effective"
    assert status(rows, 131, "effective") == "quiet"


def test_answers_after_the_enforcers_delay_are_ineffective() -> None:
    assert status([row(4, 1, 1)], 5) is None
    (found,) = judged([row(4, 1, 1), row(9, 1, 1)], 10)
    assert (found.status, found.answered_for) == ("ineffective", 9.0)
    assert found.why.message == "still answered 9.0 s after it was applied"


def test_what_was_ineffective_may_become_effective() -> None:
    rows = [row(9, 1, 1), row(12, 3), row(14)]
    assert status(rows, 15, "ineffective") == "effective"
    assert status(rows[:2], 13, "ineffective") is None


def test_nobody_who_looks_is_unknown_and_a_word_ends_it() -> None:
    assert status([], 90) is None
    assert status([], 91) == "unknown"
    assert status([row(10)], 101) == "unknown"
    assert status([row(95, 5), row(101)], 102, "unknown") == "effective"


def test_rows_of_before_repeats_and_other_containments_say_nothing() -> None:
    rows = [row(-1, 5, 5), row(6, 1), row(6, 1), row(5, 1), row(7, 1), row(8, 3, response_id="other")]
    assert status([*rows, row(9)], 10) is None
    assert status([*rows, row(6, 1, node="n2"), row(9)], 10) == "effective"


def test_flows_that_began_before_are_no_answer_and_no_attempt() -> None:
    assert status([row(20, 4, unsure=4), row(30)], 31) is None


def test_a_new_step_begins_anew() -> None:
    verification = Verification(VerifySettings())
    verification.follow([standing()])
    verification.observe(row(9, 1, 1))
    later = Containment(RESPONSE, "applied", NOW + 10, applied_at=NOW + 10)
    verification.follow([later])
    assert list(verification.judge([later], NOW + 11)) == []


_SEEN = st.lists(
    st.tuples(st.integers(1, 200), st.integers(0, 3), st.booleans()), max_size=30, unique_by=lambda tick: tick[0]
)


@given(_SEEN, st.integers(1, 300))
def test_an_answer_just_now_is_never_called_effective_or_quiet(seen: list[tuple[int, int, bool]], now: int) -> None:
    rows = [row(at, tries, tries if told else 0) for at, tries, told in sorted(seen)]
    latest = max((r.tick - NOW for r in rows), default=0)
    answers = [r.tick - NOW for r in rows if r.answered]
    found = status([r for r in rows if r.tick <= NOW + now], now)
    if answers and max(answers) > latest - 5 and latest <= now:
        assert found in (None, "ineffective", "unknown")


def packets(desk: Desk, now: float, *rows: WatchRow) -> list[str]:
    found = desk.responder.watched(rows, NOW + now)
    desk.audit += found
    return [f"{item.outcome} {item.reason}" for item in found]


def contained(*actions: Action) -> Desk:
    desk = Desk()
    (applied,) = desk.decided(LADDER)
    assert (applied.outcome, applied.action) == ("applied", "block_egress_destination")
    return desk


def test_a_proven_block_is_effective_in_the_ledger_and_said_once() -> None:
    desk = contained()
    rows = [row(at, 1, int(at < 3)) for at in range(1, 10)]
    assert packets(desk, 10, *rows) == ["effective unanswered"]
    known = desk.responder.ledger.get(RESPONSE)
    assert known is not None
    assert (known.phase, known.answered_s, known.applied_at) == ("effective", 2.0, NOW)
    assert packets(desk, 11, row(10, 1)) == []
    desk.restart()
    known = desk.responder.ledger.get(RESPONSE)
    assert known is not None
    assert (known.phase, known.answered_s) == ("effective", 2.0)


def test_ineffective_takes_the_next_rung_and_is_verified_again() -> None:
    desk = contained()
    assert packets(desk, 10, row(8, 1, 1)) == ["ineffective answered", "applied proven"]
    known = desk.responder.ledger.get(RESPONSE)
    assert known is not None
    assert (known.phase, known.action, known.applied_at) == ("applied", "quarantine_pod", NOW + 10)
    assert desk.looked(NOW + 11) == []  # the first block is left over nowhere
    assert packets(desk, 14, row(12, 1, 1)) == []
    assert packets(desk, 20, *(row(at, 1) for at in range(13, 20))) == ["effective unanswered"]


def test_the_last_rung_says_that_there_is_no_further_one() -> None:
    desk = contained()
    packets(desk, 10, row(8, 1, 1))
    assert packets(desk, 30, row(29, 1, 1)) == ["ineffective answered", "refused no_next_rung"]
    assert packets(desk, 31, row(30, 1, 1)) == []


def test_a_next_rung_that_cannot_be_proven_leaves_what_stands() -> None:
    desk = contained()
    desk.gateway.base = VIEW.with_policies(
        policy("shop/open", {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]})
    )
    held = dict(desk.gateway.policies)
    assert packets(desk, 10, row(8, 1, 1)) == ["ineffective answered", "refused not_isolated"]
    assert desk.gateway.policies == held


def test_a_rung_that_was_refused_is_tried_again_when_the_cluster_has_changed() -> None:
    desk = contained()
    away = VIEW.changed(pods=tuple(replace(pod, ips=()) if pod.key == WEB.key else pod for pod in VIEW.pods))
    desk.gateway.base = away
    assert packets(desk, 10, row(8, 1, 1)) == ["ineffective answered", "refused identity_changed"]
    assert desk.looked(NOW + 11) == []
    desk.gateway.base = VIEW
    assert desk.looked(NOW + 12) == ["applied proven"]
    assert known(desk).action == "quarantine_pod"
    assert desk.looked(NOW + 13) == []


def approved_and_ineffective(settings: ResponseSettings | None = None) -> Desk:
    desk = Desk(settings)
    desk.decided(LADDER.model_copy(update={"mode": "approve", "deadline_s": 60}))
    for key in ("ana-1", "ben-1") if settings is not None else ("ana-1",):
        desk.said("approve", key=key)
    assert packets(desk, 10, row(8, 1, 1)) == ["ineffective answered", "proposed next_rung"]
    return desk


def known(desk: Desk) -> Containment:
    found = desk.responder.ledger.get(RESPONSE)
    assert found is not None
    return found


def test_what_needed_approval_waits_for_it_before_it_widens_and_stands_meanwhile() -> None:
    desk = approved_and_ineffective()
    held = dict(desk.gateway.policies)
    desk.restart()
    assert desk.looked(NOW + 12) == []
    assert desk.gateway.policies == held
    found = known(desk)
    assert (found.phase, found.action, found.applied_at) == ("ineffective", "block_egress_destination", NOW)
    assert found.next is not None
    assert (found.next.action, found.next.approvals) == ("quarantine_pod", ())
    assert found.next.proof is not None
    assert desk.said("approve", now=NOW + 20) == ["approved approval", "applied proven"]
    found = known(desk)
    assert (found.phase, found.action, found.next, found.applied_at) == ("applied", "quarantine_pod", None, NOW + 20)
    assert desk.looked(NOW + 21) == [], "the first rung is left over nowhere"
    assert packets(desk, 40, row(35, 1, 1)) == ["ineffective answered", "refused no_next_rung"]


def test_a_rejected_next_rung_leaves_what_stands() -> None:
    desk = approved_and_ineffective()
    held = dict(desk.gateway.policies)
    assert desk.said("reject", now=NOW + 20) == ["rejected command"]
    assert (known(desk).phase, known(desk).next) == ("ineffective", None)
    assert desk.gateway.policies == held
    assert desk.said("approve", now=NOW + 21) == ["refused not_waiting"]
    assert packets(desk, 22, row(21, 1, 1)) == []
    assert desk.said("reject", now=NOW + 23) == ["reverted command"], "with nothing that waits it is what stands"


def test_the_next_rung_needs_as_many_persons_as_the_first() -> None:
    desk = approved_and_ineffective(TWO)
    assert desk.said("approve", now=NOW + 20) == ["approved approval"]
    assert known(desk).phase == "ineffective"
    desk.restart()
    assert desk.said("approve", key="ana-2", now=NOW + 21) == ["refused approved_already"]
    assert desk.said("approve", key="ben-1", now=NOW + 22) == ["approved approval", "applied proven"]


def test_a_next_rung_that_waits_has_a_deadline_and_ends_with_what_stands() -> None:
    desk = approved_and_ineffective()
    assert desk.responder.next_deadline == NOW + 70
    assert desk.looked(NOW + 71) == ["missed deadline"]
    assert desk.looked(NOW + 72) == []
    assert desk.looked(NOW + 700)[0].startswith("expired")
    assert (known(desk).phase, known(desk).next) == ("expired", None)


def test_a_next_rung_is_not_needed_where_it_contains_after_all() -> None:
    desk = approved_and_ineffective()
    assert packets(desk, 20, *(row(at, 1) for at in range(11, 20))) == ["effective unanswered"]
    assert (known(desk).phase, known(desk).next) == ("effective", None)
    assert packets(desk, 30, row(29, 1, 1)) == ["ineffective answered", "proposed next_rung"]


def test_a_repeat_of_the_decision_is_no_next_rung() -> None:
    desk = approved_and_ineffective()
    waiting = known(desk).next
    desk.decided(LADDER.model_copy(update={"mode": "approve", "deadline_s": 60, "alert_revision": 2}), NOW + 12)
    assert known(desk).next == waiting
    assert known(desk).phase == "ineffective"


def test_nothing_seen_is_found_without_any_rows() -> None:
    desk = contained()
    assert packets(desk, 60) == []
    assert packets(desk, 95) == ["unknown not_seen"]
    assert packets(desk, 96) == []


def test_rows_of_another_cluster_are_passed_over() -> None:
    desk = contained()
    assert packets(desk, 10, row(8, 1, 1, cluster="other")) == []


def test_what_ended_is_not_judged() -> None:
    desk = contained()
    desk.looked(NOW + 700)
    assert packets(desk, 701, row(700, 1, 1)) == []
    assert desk.responder.ledger.all(STANDING) == ()


def test_an_applied_step_says_what_to_look_for() -> None:
    desk = contained()
    (applied,) = desk.audit
    (pair,) = applied.watch
    assert (pair.source, pair.destination, pair.protocol, pair.port) == ("10.0.0.10/32", "10.0.0.20/32", "TCP", 5432)
    dry = Desk().decided(LADDER.model_copy(update={"mode": "dry-run"}))
    assert [item.watch for item in dry] == [()]


def test_isolated_pods_are_watched_both_ways_but_for_their_node_and_what_is_kept() -> None:
    pairs = watch_pairs((DB.key, "shop/gone"), (), VIEW, isolates=True, kept=("10.0.9.53",))
    assert [(p.source, p.destination) for p in pairs] == [
        ("10.0.0.20/32", "0.0.0.0/0"), ("0.0.0.0/0", "10.0.0.20/32"),
        ("fd00::20/128", "::/0"), ("::/0", "fd00::20/128"),
    ]  # fmt: skip
    assert {p.spared for p in pairs} == {("10.9.0.1/32", "10.0.9.53/32")}


@pytest.mark.parametrize(("protocol", "wanted"), [("UDP", "UDP"), ("ICMPV6", "ICMP"), ("GRE", None), (None, None)])
def test_protocols_of_attacks(protocol: str | None, wanted: str | None) -> None:
    (pair,) = watch_pairs((), (AttackPair(WEB.ips[0], "192.0.2.1", protocol),), VIEW, isolates=False)
    assert pair.protocol == wanted


def test_an_attack_on_many_is_watched_within_bounds() -> None:
    attack = [AttackPair(WEB.ips[0], f"192.0.2.{n}") for n in range(200)]
    assert len(watch_pairs((), attack, VIEW, isolates=False)) == MAX_PAIRS
    assert ResponseSettings().verify == VerifySettings()


def test_a_limit_lets_some_through_and_is_not_judged_by_answers() -> None:
    assert not cuts_attackers("rate_limit")
    assert all(cuts_attackers(name) for name in load_actions() if contains(name) and name != "rate_limit")
    desk = contained()
    (applied,) = desk.audit
    limited = applied.model_copy(update={"action": "rate_limit"})
    desk.audit[:] = [limited]
    desk.restart()
    assert packets(desk, 10, row(8, 1, 1)) == []
    assert packets(desk, 100) == []
