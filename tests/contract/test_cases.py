"""Every recorded case, graded: what must be found is found, and where silence is due there is silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluicegate.case_run import run_cases
from sluicegate.cases import CaseFolder, find_cases
from sluicegate.settings import Settings

CASES = Path(__file__).parents[1] / "cases"

# Seconds of event time within which an attack must be found once its line begins; the tick's own second included.
# Cases recorded slowly on purpose say so in their name; a guess of hydra counts when the server, which takes its time
# with refusals, has ended it.
_SOON_S = 5.0
_SLOW = ("slow", "drip", "leak", "iodine", "mixed", "connections_1001", "connection", "hydra")


@pytest.mark.parametrize("folder", find_cases(CASES), ids=lambda f: str(f.folder.relative_to(CASES)))
def test_graded_without_a_miss_or_a_false_alert(folder: CaseFolder) -> None:
    (result,) = run_cases([folder], Settings(), [], frozenset())
    assert result.failure == ""
    assert result.grade is not None
    outcomes = {(line.line.expect, line.line.kind): line.outcome for line in result.grade.lines}
    assert "miss" not in outcomes.values(), outcomes
    assert [a.explanation for a in result.grade.false_alerts] == []
    if not any(word in folder.folder.name for word in _SLOW):
        late = [g for g in result.grade.lines if g.time_to_detect_s is not None and g.time_to_detect_s > _SOON_S]
        assert [(g.line.kind, g.time_to_detect_s) for g in late] == []
