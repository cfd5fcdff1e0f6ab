"""DNS spoofing: answers that contradict each other, answers that are owed, and guesses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.event_rows import BEGIN, Row, query
from tests.unit.detectors.test_claim_detectors import V_IP, play, run, worst


def second(name: str, data: str, **more: Any) -> Row:
    """Another answer to the question of ``query(V_IP, name)``."""
    return answered(name, data, **({"query_bytes": 0, "answer_number": 2} | more))


def answered(name: str, data: str, **more: Any) -> Row:
    row = query(V_IP, name, record_type=1, record_data=data, client_port=40001, id=5, flags=0x8180)
    return row | {"time": BEGIN * 10**9, "latency": 1000} | more


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([answered("a.example", "192.0.2.1"), second("a.example", "192.0.2.2")], "high"),
        ([answered("a.example", "192.0.2.1"), second("a.example", "192.0.2.1")], None),
        ([answered("a.example", "192.0.2.1"), second("a.example", "", rcode=3, record_type=0)], "high"),
        ([answered("a.example", "192.0.2.1"), second("a.example", "", rcode=2, record_type=0)], None),
        ([answered("a.example", "192.0.2.1"), second("a.example", "192.0.2.2", flags=0x8380)], None),
    ],
)
def test_second_answers(rows: list[Row], expected: str | None) -> None:
    assert worst(run(play({1: {"dns": rows}})), "dns_spoof") == expected


def test_the_second_answer_may_come_in_a_later_second() -> None:
    first, other = answered("a.example", "192.0.2.1"), second("a.example", "192.0.2.2")
    alerts = [a for a in run(play({1: {"dns": [first]}, 3: {"dns": [other]}})) if a.detector == "dns_spoof"]
    assert {e.ip for a in alerts for e in a.victims} == {V_IP}


def test_the_order_of_records_says_nothing() -> None:
    one, two = "192.0.2.1", "192.0.2.2"
    more = {"query_bytes": 0, "answer_bytes": 0}
    rows = [answered("a.example", one), answered("a.example", two, **more, answer_number=2),
            second("a.example", two), second("a.example", one, **more)]  # fmt: skip
    assert worst(run(play({1: {"dns": rows}})), "dns_spoof") is None


@pytest.mark.parametrize(
    ("server", "other", "later", "expected"),
    [
        ("10.0.0.53", "10.0.0.53", 2 * 10**9, None),
        ("10.0.0.54", "10.0.0.53", 0, None),
        ("10.0.0.53", "10.0.0.54", 0, None),
        ("10.0.0.53", "10.0.0.53", 10**6, "high"),
    ],
    ids=["asked again", "asked another first", "asked another too", "seen twice on its way"],
)
def test_repeated_questions(server: str, other: str, later: int, expected: str | None) -> None:
    given_up = answered("a.example", "", rcode=-1, answer_number=0, answer_bytes=0, record_type=0, server=server)
    first = answered("a.example", "192.0.2.1", time=BEGIN * 10**9 + later)
    rows = [given_up, first, second("a.example", "192.0.2.2", time=BEGIN * 10**9 + later, server=other)]
    assert worst(run(play({1: {"dns": rows}})), "dns_spoof") == expected


def test_two_questions_have_two_answers() -> None:
    """A resolver library asks two servers at once; the first answer is there before the second question."""
    one, two = answered("a.example", "192.0.2.1"), answered("a.example", "192.0.2.2", server="10.0.0.54")
    assert worst(run(play({1: {"dns": [one, two]}})), "dns_spoof") is None


def test_a_relayed_question_that_was_answered_before_it_was_seen_again() -> None:
    relayed = answered("a.example", "192.0.2.2", time=BEGIN * 10**9 + 300_000)
    assert worst(run(play({1: {"dns": [answered("a.example", "192.0.2.1"), relayed]}})), "dns_spoof") == "high"


def guess(number: int, name: str) -> Row:
    return answered(name, "192.0.2.66", query_bytes=0, unsolicited=True, latency=-1, id=1000 + number)


@pytest.mark.parametrize(
    ("count", "name", "expected"),
    [(10, "a.example", None), (11, "a.example", "high"), (50, "never-asked.example", None)],
)
def test_guesses(count: int, name: str, expected: str | None) -> None:
    rows = [answered("a.example", "192.0.2.1"), *(guess(i, name) for i in range(count))]
    assert worst(run(play({1: {"dns": rows}})), "dns_spoof") == expected
