"""What a rule over alerts says, as a finding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from pydantic import BaseModel

from alerts.episode import MAX_TECHNIQUES
from alerts.linking import told_attackers
from alerts.wording import number, printable
from schemas.alert import Alert
from schemas.finding import MAX_ENDPOINTS, DataQuality, Endpoint, Evidence, Finding
from schemas.sequence import SEQUENCE, SequenceRule
from schemas.word import from_iso

_MAX_NOTES = 8


class Seen(BaseModel):
    """An alert that sequences remember, by its last revision."""

    alert: Alert
    detected: float
    ended: int


def sequence_finding(
    rule: SequenceRule, group: Sequence[str], steps: Mapping[str, Sequence[Seen]], tick: int, value: int
) -> Finding:
    """Return the finding of a rule that holds.

    Args:
        rule: the rule.
        group: values of its group-by.
        steps: the alerts of each step, by detection.
        tick: in which it came to hold, s since epoch.
        value: steps seen, or what was counted.
    """
    alerts = list({s.alert.id: s.alert for seen in steps.values() for s in seen}.values())
    proven = [a for a in alerts if not a.spoofable]
    # A chain that rests on one step that could be forged could be forged as a whole.
    counts = not rule.type.startswith("temporal")
    spoofable = not proven if counts else not all(any(not s.alert.spoofable for s in seen) for seen in steps.values())
    about = " ".join(group)
    return Finding(
        detector=SEQUENCE, rule=rule.name, kind=SEQUENCE, title=rule.description or f"Sequence {rule.name}",
        severity=rule.severity, confidence=_confidence(rule, steps), tick=tick, started=_started(alerts, tick),
        node=alerts[0].node if len({a.node for a in alerts}) == 1 else "", subject=about,
        attackers=_ends(e for a in (alerts if spoofable else proven) for e in told_attackers(a)),
        victims=_ends(e for a in alerts for e in a.victims),
        techniques=rule.techniques or _techniques(alerts),
        evidence=_evidence(rule, steps, value), summary=_summary(rule, about, steps, value), spoofable=spoofable,
        data_quality=_quality(alerts), response=None, quiet=rule.timespan,
    )  # fmt: skip


def _techniques(alerts: Iterable[Alert]) -> tuple[str, ...]:
    return tuple(islice(dict.fromkeys(t for a in alerts for t in a.techniques), MAX_TECHNIQUES))


def _confidence(rule: SequenceRule, steps: Mapping[str, Sequence[Seen]]) -> float:
    """Return how sure it is: a chain is as strong as its weakest step, and a step as its best alert."""
    best = [max(s.alert.confidence for s in seen) for seen in steps.values() if seen]
    return min(best) if rule.type.startswith("temporal") else max(best)


def _started(alerts: Iterable[Alert], tick: int) -> int:
    times = []
    for alert in alerts:
        try:
            times.append(int(from_iso(alert.started_at)))
        except ValueError:
            continue
    return min(times, default=tick)


def _ends(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    # By host: which port each alert was about is told in that alert.
    different = {e.ip or e.mac: e for e in reversed(list(endpoints))}
    return tuple(reversed(different.values()))[:MAX_ENDPOINTS]


def _evidence(rule: SequenceRule, steps: Mapping[str, Sequence[Seen]], value: int) -> tuple[Evidence, ...]:
    own = [Evidence(name=name, value=len(seen), unit="alerts", window=rule.timespan) for name, seen in steps.items()]
    if rule.type.startswith("temporal"):
        return tuple(own)
    name = "alerts" if rule.counted is None else f"different_{rule.counted}"
    unit = "alerts" if rule.counted is None else "values"
    main = Evidence(name=name, value=value, limit=rule.at_least - 1, unit=unit, window=rule.timespan)
    return (main, *own)


def _summary(rule: SequenceRule, about: str, steps: Mapping[str, Sequence[Seen]], value: int) -> str:
    joint = ", then " if rule.type == "temporal_ordered" else " and "
    parts = [f"{name} ({', '.join(sorted({s.alert.kind for s in seen})[:3])})" for name, seen in steps.items() if seen]
    text = joint.join(parts)
    if not rule.type.startswith("temporal"):
        what = "alerts" if rule.counted is None else f"different values of {rule.counted}"
        text = f"{number(value)} {what} (limit {number(rule.at_least - 1)}) of {text}"
    return printable(f"rule {rule.name}: {text} about {about} within {number(rule.timespan)} s", 1000)


def _quality(alerts: Sequence[Alert]) -> DataQuality:
    """Return the worst of each: the losses of several alerts are often the same losses."""
    each = [a.data_quality for a in alerts]
    notes = dict.fromkeys(note for q in each for note in q.notes)
    return DataQuality(
        sampling=max(q.sampling for q in each), lost_packets=max(q.lost_packets for q in each),
        lost_rows=max(q.lost_rows for q in each), malformed=max(q.malformed for q in each),
        late=max(q.late for q in each), shed=max(q.shed for q in each), notes=tuple(islice(notes, _MAX_NOTES)),
    )  # fmt: skip
