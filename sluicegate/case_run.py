"""Running cases and gathering their grades."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.chunks import CaptureReport
from exporter.sources.byte_source import CaptureError
from schemas.alert import Alert
from sluicegate.cases import READABLE_FORMATS, CaseFolder
from sluicegate.composition import pipeline_settings, read_rules
from sluicegate.evaluation import CaseGrade, chosen_lines, grade, last_revisions
from sluicegate.inputs import identities_of, read_any, read_inventory
from sluicegate.problems import CommandProblem
from sluicegate.settings import Settings
from stream.pipeline import Pipeline
from stream.stages import Parts

_NODE = "node1"
_CLUSTER = "local"
# A detector gone wild must not fill memory; the grades are decided long before.
_MAX_REVISIONS = 100_000


@dataclass(frozen=True)
class CaseResult:
    """A case that was graded, could not be run (``failure``), or has a format not read (both absent)."""

    folder: CaseFolder
    grade: CaseGrade | None = None
    failure: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def read(self) -> bool:
        """False where the format is none that can be read."""
        return self.grade is not None or bool(self.failure)


def run_cases(
    folders: Sequence[CaseFolder], settings: Settings, rules: Sequence[Path], kinds: frozenset[str]
) -> Iterator[CaseResult]:
    """Run each case through engines of its own; cases without a line about ``kinds`` are left out.

    Raises:
        RuleError: a rule file that is not one.
    """
    loaded = read_rules(rules)
    for folder in folders:
        lines = chosen_lines(folder.case, kinds)
        if not lines:
            continue
        if folder.case.format not in READABLE_FORMATS:
            yield CaseResult(folder)
            continue
        report = CaptureReport()
        try:
            folder.check_input()
            objects = read_inventory(folder.inventory) if folder.inventory is not None else []
            built = Parts(pipeline_settings(settings), identities_of(folder.inventory, objects), loaded)
            alerts = _run(folder.input, settings, built, report)
        except (CommandProblem, CaptureError) as error:
            yield CaseResult(folder, failure=str(error))
            continue
        yield CaseResult(folder, grade(lines, folder.case.first, alerts), warnings=tuple(report.problems))


def _run(path: Path, settings: Settings, built: Parts, report: CaptureReport) -> list[Alert]:
    alerts: list[Alert] = []
    messages = read_any(str(path), _NODE, _CLUSTER, settings.exporter, report)
    for output in Pipeline(built).run(messages):
        alerts += output.alerts
        if len(alerts) > _MAX_REVISIONS:
            alerts = last_revisions(alerts)[:_MAX_REVISIONS]
    return alerts
