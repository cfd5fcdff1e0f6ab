"""A difference between two answers is told so that one can go and look."""

from __future__ import annotations

from typing import Any

import orjson

from schemas.alert import Alert
from tests.torture.answer import Answer, differences
from tests.unit.torture.words import alert, incident


def answer(*words: Any) -> Answer:
    made = Answer()
    for word in words:
        made.add(word, word.encode())
    return made


def test_equal_answers_differ_in_nothing() -> None:
    assert differences(answer(alert(1), incident(1)), answer(incident(1), alert(1))) == []


def test_what_is_missing_or_too_much_is_named_with_its_tick() -> None:
    (missing,) = differences(answer(alert(1), alert(2)), answer(alert(1)))
    assert missing.startswith("missing: alert a revision 2 (open) at tick 102: port_scan of 10.0.0.1")
    (more,) = differences(answer(), answer(incident(1)))
    assert more.startswith("not expected: incident i revision 1")


def test_a_changed_field_is_shown_with_both_values() -> None:
    (line,) = differences(answer(alert(1)), answer(alert(1, explanation="another")))
    assert 'explanation: "another" instead of "it scans"' in line
    (line,) = differences(answer(alert(1)), answer(alert(1, confidence=0.25, occurrences=9, title="x", kind="y")))
    assert line.count(" instead of ") == 3
    assert line.endswith("and 1 more fields")


def test_the_earliest_difference_comes_first() -> None:
    lines = differences(answer(alert(1), alert(3), alert(2)), answer(alert(1)))
    assert [line.split("tick ")[1][:3] for line in lines] == ["102", "103"]


def test_equal_bytes_again_are_counted_and_other_bytes_are_a_difference() -> None:
    found = answer(alert(1), alert(1))
    assert found.resent == {"alert": 1}
    assert differences(answer(alert(1)), found) == []
    found = answer(alert(1), alert(1, title="another"))
    (line,) = differences(answer(alert(1)), found)
    assert line.startswith("said twice, differently: alert a revision 1")


def test_the_same_values_in_other_bytes_differ() -> None:
    found = Answer()
    word: Alert = alert(1)
    found.add(word, orjson.dumps(orjson.loads(word.encode()), option=orjson.OPT_INDENT_2))
    (line,) = differences(answer(word), found)
    assert "the same values in other bytes" in line
