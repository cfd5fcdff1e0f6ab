"""Grading: what was found in a case against what its file says is there. Pure.

An alert is a hit when its kind and its attacker agree with an ``alert`` line (its victim, where the
line's source is in parentheses because it was spoofed) and its time overlaps the line's. One hit per
line, however many alerts fire. Alerts of medium severity or higher against a ``silence`` line are false
alerts; those that a ``report`` line covers are counted apart, and so are those that no line covers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.alert import Alert
from schemas.finding import SEVERITIES, Severity
from schemas.word import from_iso
from sluicegate.cases import Case, Expectation

ANY = "any"
FALSE_ALERT_FROM: Severity = "medium"
# An event at time t is reported with the cut that ends its second.
_CUT_S = 1.0

Outcome = Literal["hit", "miss", "silent", "false alert", "reported", "not reported"]


@dataclass(frozen=True)
class LineGrade:
    """One line of truth and what came of it.

    ``time_to_detect_s`` is the event time of the first matching alert minus the line's start; negative
    where it fired before. ``alerts`` are the ids of the alerts that decided the outcome.
    """

    line: Expectation
    outcome: Outcome
    time_to_detect_s: float | None = None
    alerts: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaseGrade:
    """A graded case.

    ``false_alerts`` fired against silence; ``apart`` are those that no line covers, or too slight to be
    false alerts.
    """

    lines: tuple[LineGrade, ...]
    false_alerts: tuple[Alert, ...]
    apart: tuple[Alert, ...]

    def count(self, outcome: Outcome) -> int:
        """Number of lines with an outcome."""
        return sum(line.outcome == outcome for line in self.lines)


def last_revisions(alerts: Iterable[Alert]) -> list[Alert]:
    """Return the last revision of each alert, by (tick of detection, id)."""
    last: dict[str, Alert] = {}
    for alert in alerts:
        known = last.get(alert.id)
        if known is None or alert.revision >= known.revision:
            last[alert.id] = alert
    return sorted(last.values(), key=lambda a: (a.detected_at, a.id))


def chosen_lines(case: Case, kinds: frozenset[str]) -> tuple[Expectation, ...]:
    """Return the lines about some kinds; silence about anything always counts. No kinds: all lines."""
    return tuple(e for e in case.expect if not kinds or e.kind in kinds or (e.kind == ANY and e.expect == "silence"))


def grade(lines: Sequence[Expectation], first: str | None, alerts: Iterable[Alert]) -> CaseGrade:
    """Grade the alerts of a case.

    Args:
        lines: the truth.
        first: time of the case's first event, ISO 8601; without it times are not compared.
        alerts: every alert revision that was made.
    """
    origin = from_iso(first) if first else None
    found = last_revisions(alerts)
    covers = {e: [a for a in found if _covers(e, a, origin)] for e in lines}
    told = {a.id for e, matching in covers.items() if e.expect != "silence" for a in matching}
    grades = [_grade_line(e, covers[e], told, origin) for e in lines]
    false = {a for g in grades if g.outcome == "false alert" for a in g.alerts}
    return CaseGrade(
        tuple(grades),
        tuple(a for a in found if a.id in false),
        tuple(a for a in found if a.id not in false and a.id not in told),
    )


def _grade_line(line: Expectation, matching: list[Alert], told: set[str], origin: float | None) -> LineGrade:
    if line.expect == "silence":
        # "Nothing else" leaves room for what other lines expect; silence of one kind leaves none.
        against = [a for a in matching if is_serious(a) and (line.kind != ANY or a.id not in told)]
        return LineGrade(line, "false alert" if against else "silent", None, tuple(a.id for a in against))
    ids = tuple(a.id for a in matching)
    if line.expect == "report":
        return LineGrade(line, "reported" if matching else "not reported", None, ids)
    if not matching:
        return LineGrade(line, "miss")
    return LineGrade(line, "hit", _delay(line, matching[0], origin), ids)


def is_serious(alert: Alert) -> bool:
    """Tell whether an alert is severe enough to be a false alert."""
    return SEVERITIES.index(alert.severity) >= SEVERITIES.index(FALSE_ALERT_FROM)


def _delay(line: Expectation, alert: Alert, origin: float | None) -> float | None:
    if origin is None or line.start_s is None:
        return None
    return round(from_iso(alert.detected_at) - origin - line.start_s, 3)


def _covers(line: Expectation, alert: Alert, origin: float | None) -> bool:
    kind = line.kind in (ANY, alert.kind, alert.detector)
    return kind and _agrees(line, alert) and _overlaps(line, alert, origin)


def _agrees(line: Expectation, alert: Alert) -> bool:
    if line.src.startswith("("):
        return any(_is(line.dst, v.ip, v.mac) for v in alert.victims)
    return not line.src or any(_is(line.src, a.ip, a.mac) for a in alert.attackers)


def _overlaps(line: Expectation, alert: Alert, origin: float | None) -> bool:
    if origin is None:
        return True
    # Silence is broken when an alert opens; an attack is found by any evidence from its time.
    silence = line.expect == "silence"
    starts, ends = (alert.detected_at, alert.detected_at) if silence else (alert.started_at, alert.ended_at)
    after = line.start_s is None or from_iso(ends) - origin >= line.start_s
    before = line.end_s is None or from_iso(starts) - origin <= line.end_s + _CUT_S
    return after and before


def _is(wanted: str, ip: str, mac: str | None) -> bool:
    """Tell whether an endpoint is the one a line names: an address, a range, ``MAC ...``, or words for anybody."""
    if wanted.startswith("MAC "):
        return mac is not None and mac.lower() == wanted[4:].strip().lower()
    try:
        network = ipaddress.ip_network(wanted, strict=False)
    except ValueError:
        return True
    try:
        return ipaddress.ip_address(ip) in network
    except ValueError:
        return False
