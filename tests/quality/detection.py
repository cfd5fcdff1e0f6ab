"""How each detector does on recorded cases: hits, false alerts, and how long after its limit it speaks."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from exporter.chunks import CaptureReport
from schemas.alert import Alert
from schemas.event_codec import EventMessage
from schemas.word import from_iso
from sluicegate.case_run import CaseResult, run_cases
from sluicegate.cases import CaseFolder, find_cases
from sluicegate.composition import pipeline_settings, read_rules
from sluicegate.evaluation import grade
from sluicegate.inputs import identities_of, learning, read_any, read_inventory
from sluicegate.settings import Settings
from stream.pipeline import Pipeline
from stream.stages import Parts

# Kinds whose attack goes on fast enough that seconds count; their median is held to a limit.
FAST = (
    "port_scan_vertical", "port_scan_horizontal", "icmp_sweep", "udp_scan", "arp_scan", "syn_flood", "udp_flood",
    "icmp_flood", "connection_flood", "http_flood", "dns_flood", "amplification",
)  # fmt: skip
SOON_S = 2.0
_BACK = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass
class Kind:
    """What became of the lines about one kind of attack."""

    hits: int = 0
    misses: int = 0
    false_alerts: int = 0
    delays: list[float] = field(default_factory=list)
    after_limit: list[float] = field(default_factory=list)


def run(root: Path) -> list[CaseResult]:
    """Grade all cases below a folder."""
    return list(run_cases(find_cases(root), Settings(), [], frozenset()))


def _messages(folder: CaseFolder) -> tuple[Parts, list[EventMessage]]:
    settings, report = Settings(), CaptureReport()
    objects = read_inventory(folder.inventory) if folder.inventory is not None else []
    identities = identities_of(folder.inventory, objects)
    source = read_any(str(folder.input), "node1", "local", settings.exporter, report)
    parts = Parts(pipeline_settings(settings), identities, read_rules([]))
    return parts, list(learning(source, report, identities, []))


def _until(messages: Sequence[EventMessage], cut: int) -> Iterable[EventMessage]:
    """The log as it would be had nothing come after a cut: later messages without their rows."""
    return (m if m.header.cut <= cut else EventMessage(m.header, {}) for m in messages)


def after_limit(folder: CaseFolder, result: CaseResult, kind: str) -> float | None:
    """Return within how many seconds of its limit a kind was told in a case; None where it was not, or not alone.

    What came until some second is replayed with silence after it. The last second that does not suffice for the alert
    is the one before the limit was reached; the alert's tick minus that second is an upper bound, so at least 1.
    """
    assert result.grade is not None
    lines = [g.line for g in result.grade.lines if g.outcome == "hit" and g.line.kind == kind]
    if len(lines) != 1:
        return None
    parts, messages = _messages(folder)

    def told(cut: int) -> list[Alert]:
        output = Pipeline(parts).run(_until(messages, cut))
        alerts = [a for o in output for a in o.alerts]
        graded = grade(lines, folder.case.first, alerts)
        return [a for a in alerts if a.id in graded.lines[0].alerts]

    whole = told(max(m.header.cut for m in messages))
    tick = min(int(from_iso(a.detected_at)) for a in whole)
    return next((float(back) for back in _BACK if not told(tick - back)), None)


def by_kind(results: Sequence[CaseResult]) -> dict[str, Kind]:
    """Gather the outcomes by kind of attack."""
    found: dict[str, Kind] = defaultdict(Kind)
    for result in results:
        if result.grade is None:
            continue
        for alert in result.grade.false_alerts:
            found[alert.kind].false_alerts += 1
        for line in result.grade.lines:
            if line.line.expect != "alert":
                continue
            kind = found[line.line.kind]
            kind.hits += line.outcome == "hit"
            kind.misses += line.outcome == "miss"
            if line.time_to_detect_s is not None:
                kind.delays.append(line.time_to_detect_s)
            if line.outcome == "hit" and (bound := after_limit(result.folder, result, line.line.kind)) is not None:
                kind.after_limit.append(bound)
    return dict(sorted(found.items()))


def late(kinds: dict[str, Kind]) -> list[str]:
    """Scans and floods whose median after the limit is above what is promised."""
    return [
        name
        for name, kind in kinds.items()
        if name in FAST and kind.after_limit and statistics.median(kind.after_limit) > SOON_S
    ]


def median(values: Sequence[float]) -> str:
    """The median as text; empty where there is none."""
    return f"{statistics.median(values):.1f}" if values else ""
