"""Running cases and gathering their grades."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from detectors.rule_file import RuleFile
from exporter.chunks import CaptureReport
from exporter.sources.byte_source import CaptureError
from schemas.alert import Alert
from schemas.inventory import InventoryObject
from sluicegate.cases import READABLE_FORMATS, CaseFolder, Expectation
from sluicegate.composition import pipeline_settings, read_rules
from sluicegate.domain_groups import FORMAT, group_files, lines_about, read_groups
from sluicegate.evaluation import CaseGrade, chosen_lines, grade, last_revisions
from sluicegate.inputs import identities_of, learning, read_any, read_inventory
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
    folders: Sequence[CaseFolder],
    settings: Settings,
    rules: Sequence[Path],
    kinds: frozenset[str],
    inventory: Path | None = None,
) -> Iterator[CaseResult]:
    """Run each case through engines of its own; cases without a line about ``kinds`` are left out.

    Args:
        folders: the cases.
        settings: of the exporter, the engines and alerts.
        rules: files of rules.
        kinds: grade only lines about these; empty: all.
        inventory: who had which address in all cases, beside what each case says itself.

    Raises:
        RuleError: a rule file that is not one.
        CommandProblem: an inventory that is not one.
    """
    loaded = read_rules(rules)
    shared = read_inventory(inventory) if inventory is not None else []
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
            objects = shared + (read_inventory(folder.inventory) if folder.inventory is not None else [])
            run = _CaseRun(settings, loaded, folder.inventory or inventory, objects, report)
            result = run.grade(folder, lines)
        except (CommandProblem, CaptureError) as error:
            yield CaseResult(folder, failure=str(error))
            continue
        yield CaseResult(folder, result, warnings=tuple(report.problems))


@dataclass(frozen=True)
class _CaseRun:
    """What runs one case."""

    settings: Settings
    rules: RuleFile
    inventory: Path | None
    objects: Sequence[InventoryObject]
    report: CaptureReport

    def grade(self, folder: CaseFolder, lines: tuple[Expectation, ...]) -> CaseGrade:
        groups = read_groups(folder.input) if folder.case.format == FORMAT else {}
        if not groups:
            return grade(lines, folder.case.first, self._alerts(folder.input))
        grades = [
            grade(lines_about(lines, group), folder.case.first, self._alerts(path))
            for group, path in group_files(groups)
        ]
        return CaseGrade(
            tuple(line for g in grades for line in g.lines),
            tuple(alert for g in grades for alert in g.false_alerts),
            # Each group is told the same of its source; once is enough.
            tuple({alert.id: alert for g in grades for alert in g.apart}.values()),
        )

    def _alerts(self, path: Path) -> list[Alert]:
        alerts: list[Alert] = []
        identities = identities_of(self.inventory, self.objects)
        built = Parts(pipeline_settings(self.settings), identities, self.rules)
        messages = read_any(str(path), _NODE, _CLUSTER, self.settings.exporter, self.report)
        for output in Pipeline(built).run(learning(messages, self.report, identities, [])):
            alerts += output.alerts
            if len(alerts) > _MAX_REVISIONS:
                alerts = last_revisions(alerts)[:_MAX_REVISIONS]
        return alerts
