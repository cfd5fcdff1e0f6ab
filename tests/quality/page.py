"""`docs/quality.md`, made of what was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sluicegate.case_run import CaseResult
from sluicegate.evaluation_report import totals
from tests.quality.detection import Kind, median
from tests.quality.poisoning import Found, Ramp, is_caught

_HEAD = """# Quality

What the detectors find and how often they are wrong, on traffic that the project recorded itself or, where it says so,
generated. Written by `make quality`; how cases are graded: [evaluation.md](evaluation.md).

A few hours of recordings prove that detectors work, not how often they are wrong in a year.
"""
_HOUR = "hour"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)]) + "\n"


def cases(title: str, results: Sequence[CaseResult], kinds: dict[str, Kind]) -> str:
    """Hits, misses, false alerts and delays by kind, and hits by tier."""
    counts = totals(results)
    tiers: dict[str, Counter[str]] = {}
    for result in results:
        for line in result.grade.lines if result.grade is not None else ():
            if line.line.expect == "alert":
                tiers.setdefault(result.folder.case.tier, Counter())[line.outcome] += 1
    shares = "; ".join(f"tier {t}: {c['hit']} of {c.total()}" for t, c in sorted(tiers.items()))
    rows = [
        (f"`{name}`", k.hits, k.hits + k.misses, k.false_alerts, median(k.delays), median(k.after_limit))
        for name, k in kinds.items()
    ]
    expected = counts["hits"] + counts["misses"]
    said = (
        f"{counts['graded']} of {counts['cases']} cases graded, {counts['hits']} of {expected} "
        f"expected alerts found ({shares}); {counts['false_alerts']} false alerts of medium or higher severity, "
        f"{counts['silences_kept']} silences kept, {counts['apart']} slighter alerts or alerts that no line covers.\n"
    )
    head = ("kind", "found", "expected", "false alerts", "s after the attack began", "s after the limit, at most")
    return f"## {title}\n\n{said}\n{_table(head, rows)}"


TIMES = """## Time to detect

Both columns above are medians over the positive cases, in event time. *After the attack began* counts from the first
packet of the attack, and includes the time until its limit is reached. *After the limit* is the tick of the alert minus
the last second whose rows do not suffice for it, so it cannot be below 1: a second is judged when it ends.
"""


def hour(results: Sequence[CaseResult]) -> str:
    """What was said of the hour in which nothing is wrong, by kind and severity."""
    found = [r for r in results if r.folder.case.id == _HOUR and r.grade is not None]
    if not found or found[0].grade is None:
        return ""
    graded = found[0].grade
    said = Counter((a.kind, a.severity) for a in (*graded.apart, *graded.false_alerts))
    rows = [(f"`{kind}`", severity, count) for (kind, severity), count in sorted(said.items())]
    case = found[0].folder.case
    text = (
        f"{case.title}, with real servers and clients (`tests/quality/benign_hour`): "
        f"{case.span_s or 0:,.0f} s by the clock, of which the exporter's running out is the last minute. "
        f"{len(graded.false_alerts)} alerts of medium or higher severity; the slighter ones:\n"
    )
    return f"## A benign hour\n\n{text}\n{_table(('kind', 'severity', 'alerts'), rows)}"


def poisoning(played: Sequence[tuple[Ramp, dict[float, Found | None]]]) -> str:
    """What was found of attacks that grow slowly, from the fastest to the slowest."""
    rows = []
    for ramp, found in played:
        for speed, said in found.items():
            told = f"day {said.day:.1f}, {said.severity}" if said is not None else "not found"
            rows.append((f"`{ramp.detector}`", ramp.what, f"{speed:g} {ramp.unit}", told, _verdict(ramp, said)))
    text = (
        "An attacker grows slowly for a week of event time (generated rows, replayed in seconds) so that a detector "
        "gets used to it. Caught: an alert of medium severity, of `traffic_anomaly` one of low, which is all it says "
        "of what creeps. Each detector runs alone.\n"
    )
    head = ("detector", "what grows", "speed", "found", "caught")
    return f"## Poisoning\n\n{text}\n{_table(head, rows)}"


def _verdict(ramp: Ramp, found: Found | None) -> str:
    return "yes" if is_caught(ramp, found) else "no"


def page(parts: Sequence[str]) -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(part for part in parts if part)])
