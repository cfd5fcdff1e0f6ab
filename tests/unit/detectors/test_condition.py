from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.condition import Condition, ConditionError, parse_condition

NUMBERS = ("rate", "ports", "failed")
VALUES = {
    "rate": np.array([0, 10, 11, 5000]),
    "ports": np.array([0, 1, 5, 20]),
    "failed": np.array([0, 5, 0, 4999]),
}


def read(text: str, threshold: float | None = None) -> Condition:
    return parse_condition(text, NUMBERS, ("odd",), threshold)


def holds(text: str, threshold: float | None = None) -> list[bool]:
    return [bool(b) for b in read(text, threshold).evaluate(VALUES)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rate > 10", [False, False, True, True]),
        ("rate >= 10", [False, True, True, True]),
        ("rate < 11", [True, True, False, False]),
        ("rate <= 11", [True, True, True, False]),
        ("rate == 11", [False, False, True, False]),
        ("10 < rate", [False, False, True, True]),
        ("5 < rate <= 11", [False, True, True, False]),
        ("1 < 5 < ports", [False, False, False, True]),
        ("rate > 10 and ports > 5", [False, False, False, True]),
        ("rate > 4000 or ports == 1", [False, True, False, True]),
        ("not rate > 10", [True, True, False, False]),
        ("failed / rate > 0.4", [False, True, False, True]),
        ("failed / rate < 0.4", [True, False, True, False]),
        ("rate * 2 - ports + 1 > 20", [False, False, False, True]),
        ("rate > -1", [True, True, True, True]),
        ("rate > 1e3", [False, False, False, True]),
        ("(rate > 10\n  and ports > 5)", [False, False, False, True]),
    ],
)
def test_evaluates_over_columns(text: str, expected: list[bool]) -> None:
    assert holds(text) == expected


def test_threshold_stands_for_the_rules_number() -> None:
    assert holds("rate > threshold", 10) == [False, False, True, True]
    assert holds("rate > 2 * threshold", 10) == [False, False, False, True]


def test_a_truth_word_needs_no_comparison() -> None:
    condition = read("odd and not odd or odd")
    assert condition.words == ("odd",)
    assert condition.evaluate({"odd": np.array([True, False])}).tolist() == [True, False]


def test_says_which_limits_its_words_must_exceed() -> None:
    condition = read("rate > threshold and 5 <= ports and failed / rate > 0.5 and rate > 300", 100)
    assert condition.words == ("rate", "ports", "failed")
    assert dict(condition.limits) == {"rate": 100.0, "ports": 5.0}
    assert condition.highest == 300.0


def test_an_enormous_product_is_no_error() -> None:
    assert holds(f"rate * {'9' * 300} * {'9' * 190} > 5") == [False, True, True, True]


def test_no_values_give_no_answers() -> None:
    assert read("rate > 1").evaluate({"rate": np.zeros(0, np.int64)}).tolist() == []


@given(st.text(max_size=600))
def test_any_text_is_read_or_refused_in_one_printable_line(text: str) -> None:
    try:
        read(text, 1.0)
        problem = ""
    except ConditionError as error:
        problem = str(error)
    assert problem.isprintable()


@given(st.text(alphabet="ratefiodnp> <=()+-*/.1,:[]'\"\\\n", max_size=80))
def test_texts_near_the_language_are_read_or_refused(text: str) -> None:
    try:
        condition = read("rate > 1 or " + text)
    except ConditionError:
        return
    assert condition.evaluate({**VALUES, "odd": np.zeros(4, np.bool_)}).shape == (4,)


@given(st.integers(-(10**6), 10**6), st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_agrees_with_plain_arithmetic(limit: int, values: list[int]) -> None:
    result = read(f"rate * 2 + 1 > {limit}").evaluate({"rate": np.array(values)})
    assert result.tolist() == [v * 2 + 1 > limit for v in values]
