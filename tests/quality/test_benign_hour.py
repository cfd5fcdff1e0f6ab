"""The recorded hour in which nothing is wrong: whole, and nothing of medium or higher severity is said of it."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from sluicegate.case_run import CaseResult, run_cases
from sluicegate.cases import find_cases
from sluicegate.settings import Settings
from tests.lab.hour import keep

pytestmark = pytest.mark.timeout(600)  # about a minute on a busy machine
FOLDER = Path(__file__).parent / "benign_hour"
# Slighter alerts may come; a detector that becomes talkative shows here. Measured: 30.
MOST_SLIGHT = 45


@cache
def graded() -> CaseResult:
    """The hour, run once."""
    (result,) = run_cases(find_cases(FOLDER), Settings(), [], frozenset())
    return result


def test_nothing_grave_is_said_of_it() -> None:
    result = graded()
    assert result.failure == ""
    assert result.grade is not None
    assert [a.explanation for a in result.grade.false_alerts] == []
    assert [line.outcome for line in result.grade.lines] == ["silent"]


def test_slighter_alerts_stay_few() -> None:
    grade = graded().grade
    assert grade is not None
    said = Counter(alert.kind for alert in grade.apart)
    assert said.total() <= MOST_SLIGHT, said


def test_its_inventory_is_the_recorders() -> None:
    assert (FOLDER / "inventory.jsonl").read_bytes() == keep.inventory()
    assert (FOLDER / keep.ROWS_NAME).stat().st_size <= keep.MAX_ROWS_BYTES
