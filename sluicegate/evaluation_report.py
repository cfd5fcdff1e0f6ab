"""Graded cases as a table and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from schemas.alert import Alert
from sluicegate.alert_view import who
from sluicegate.case_run import CaseResult
from sluicegate.evaluation import LineGrade, Outcome
from sluicegate.terminal import cell, shortened, table, wrapped

_STYLES: dict[str, str] = {"hit": "green", "silent": "green", "miss": "red", "false alert": "red", "failed": "red"}

# Together with the other columns exactly what fits a line.
_CASE_WIDTH = 29
_EXPECTED_WIDTH = 37


def totals(results: Sequence[CaseResult]) -> dict[str, int]:
    """Return how many lines had which outcome, and how many cases were not read or failed."""
    graded = [r.grade for r in results if r.grade is not None]

    def lines(outcome: Outcome) -> int:
        return sum(grade.count(outcome) for grade in graded)

    return {
        "cases": len(results), "graded": len(graded), "not_read": sum(not r.read for r in results),
        "failed": sum(bool(r.failure) for r in results), "hits": lines("hit"), "misses": lines("miss"),
        "silences_kept": lines("silent"), "false_alerts": sum(len(g.false_alerts) for g in graded),
        "cases_with_false_alerts": sum(bool(g.false_alerts) for g in graded),
        "reported": lines("reported"), "not_reported": lines("not reported"),
        "apart": sum(len(g.apart) for g in graded),
    }  # fmt: skip


def by_kind(results: Sequence[CaseResult]) -> dict[str, dict[str, int]]:
    """Return hits and misses per kind of attack."""
    found: dict[str, Counter[str]] = {}
    for result in results:
        for line in result.grade.lines if result.grade is not None else ():
            if line.line.expect == "alert":
                found.setdefault(line.line.kind, Counter())[line.outcome] += 1
    return {kind: {"hits": c["hit"], "misses": c["miss"]} for kind, c in sorted(found.items())}


def met(results: Sequence[CaseResult]) -> bool:
    """Tell whether everything expected was found and nothing else."""
    counts = totals(results)
    return not (counts["misses"] or counts["false_alerts"] or counts["failed"])


def as_words(results: Sequence[CaseResult]) -> dict[str, Any]:
    """Return everything as JSON values."""
    return {"cases": [_case_words(r) for r in results], "by_kind": by_kind(results), "totals": totals(results)}


def _case_words(result: CaseResult) -> dict[str, Any]:
    case = result.folder.case
    words: dict[str, Any] = {
        "id": case.id,
        "folder": str(result.folder.folder),
        "tier": case.tier,
        "format": case.format,
    }
    if result.grade is None:
        words["status"] = "failed" if result.failure else "not read"
        words["reason"] = result.failure or f"format {case.format} is not read yet"
        return words
    words["status"], words["warnings"] = "graded", list(result.warnings)
    words["lines"] = [
        {"expect": g.line.expect, "kind": g.line.kind, "src": g.line.src, "dst": g.line.dst, "outcome": g.outcome,
         "time_to_detect_s": g.time_to_detect_s, "alerts": list(g.alerts)}
        for g in result.grade.lines
    ]  # fmt: skip
    words["false_alerts"] = [_alert_words(alert) for alert in result.grade.false_alerts]
    words["apart"] = [_alert_words(alert) for alert in result.grade.apart]
    return words


def _alert_words(alert: Alert) -> dict[str, Any]:
    names = {"id", "detector", "kind", "severity", "detected_at", "explanation"}
    return alert.model_dump(mode="json", include=names)


def print_report(out: Console, results: Sequence[CaseResult]) -> None:
    """Print a row per line of truth, then what was apart, per kind, and totals."""
    made = table("case", "tier", "expected", "outcome", "delay s", right=("delay s",))
    for result in results:
        _add_rows(made, result)
    out.print(made)
    graded = [(r.folder.case.id, r.grade) for r in results if r.grade is not None]
    _print_alerts(out, "False alerts", [(name, a) for name, grade in graded for a in grade.false_alerts])
    title = "Alerts that no line covers, or too slight to be false alerts"
    _print_alerts(out, title, [(name, a) for name, grade in graded for a in grade.apart])
    for result in results:
        for warning in result.warnings:
            out.print(cell(f"warning: {result.folder.case.id}: {warning}", "yellow"))
    kinds = table("kind", "found", "expected", title="Expected alerts by kind", right=("found", "expected"))
    for kind, counts in by_kind(results).items():
        kinds.add_row(cell(kind), cell(counts["hits"]), cell(counts["hits"] + counts["misses"]))
    if kinds.row_count:
        out.print(kinds)
    _print_totals(out, totals(results))


def _add_rows(made: Any, result: CaseResult) -> None:
    case = result.folder.case
    name = shortened(case.id, _CASE_WIDTH)
    if result.grade is None:
        outcome = "failed" if result.failure else "not read"
        text = result.failure or f"format {case.format}"
        made.add_row(cell(name), cell(case.tier), cell(text), cell(outcome, _STYLES.get(outcome, "dim")), cell(""))
        return
    for number, line in enumerate(result.grade.lines):
        seconds = f"{line.time_to_detect_s:,.1f}" if line.time_to_detect_s is not None else ""
        made.add_row(
            cell(name if number == 0 else ""), cell(case.tier if number == 0 else ""), cell(_expected(line)),
            cell(line.outcome, _STYLES.get(line.outcome, "dim")), cell(seconds),
        )  # fmt: skip


def _expected(line: LineGrade) -> str:
    said = line.line
    ends = f" {said.src}" if said.src else ""
    return shortened(f"{said.expect} {said.kind}{ends}", _EXPECTED_WIDTH)


def _print_alerts(out: Console, title: str, rows: Sequence[tuple[str, Alert]]) -> None:
    if not rows:
        return
    out.print(cell(title, "bold"))
    for name, alert in rows:
        out.print(cell(shortened(f"  {name}: {alert.severity} {alert.kind} {who(alert)}", 100)))
        for text in wrapped(shortened(alert.explanation, 190)):
            out.print(cell(text, "dim"))


def _print_totals(out: Console, counts: dict[str, int]) -> None:
    expected = counts["hits"] + counts["misses"]
    out.print(cell(f"{counts['hits']} of {expected} expected alerts found", "bold"))
    out.print(cell(f"{counts['false_alerts']} false alerts in {counts['cases_with_false_alerts']} cases; "
                   f"{counts['silences_kept']} silences kept"))  # fmt: skip
    reports = counts["reported"] + counts["not_reported"]
    out.print(cell(f"{counts['reported']} of {reports} optional findings reported; {counts['apart']} alerts apart"))
    out.print(cell(f"{counts['graded']} of {counts['cases']} cases graded, {counts['not_read']} not read, "
                   f"{counts['failed']} failed"))  # fmt: skip
