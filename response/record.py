"""The record of an incident: what was seen, what was done, who approved it, and what to learn from it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from pydantic import Field

from response.plan import contains
from schemas.action import Action, Outcome
from schemas.alert import Alert
from schemas.finding import SEVERITIES, Endpoint
from schemas.incident import Incident
from schemas.word import Word, from_iso

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# What Markdown would take as its own.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|!])")
_DONE: frozenset[Outcome] = frozenset({"applied"})
_ENDS: frozenset[Outcome] = frozenset({"expired", "released", "reverted", "cancelled"})


class RecordLine(Word):
    """One entry of the timeline."""

    at: str = Field(description="ISO 8601, UTC")
    what: str = Field(description="alert, or the outcome of a step")
    who: str = Field(description="detector, operator, or sluicegate")
    text: str = Field(description="in one sentence")


class RecordEvidence(Word):
    """What an alert rests on."""

    alert_id: str = Field(description="of the alert")
    kind: str = Field(description="of the alert")
    severity: str = Field(description="of the alert")
    confidence: float = Field(description="of the alert")
    explanation: str = Field(description="of the alert")
    values: tuple[str, ...] = Field(description="each value against its limit")
    spoofable: bool = Field(description="of the alert")


class IncidentRecord(Word):
    """Everything that is known about an incident, an alert or a response, for people who look back."""

    type: Literal["incident_record"] = "incident_record"
    schema_version: Literal[1] = 1
    subject: str = Field(description="id that was asked for")
    cluster: str = Field(description="where it happened")
    severity: str = Field(description="the highest of its alerts")
    summary: str = Field(description="in one sentence")
    attackers: tuple[str, ...] = Field(description="names or addresses")
    victims: tuple[str, ...] = Field(description="names or addresses")
    techniques: tuple[str, ...] = Field(description="ATT&CK technique ids")
    timeline: tuple[RecordLine, ...] = Field(description="in order of time")
    evidence: tuple[RecordEvidence, ...] = Field(description="by alert")
    responses: tuple[str, ...] = Field(description="ids of responses")
    approvals: tuple[str, ...] = Field(description="who approved, rejected, extended or reverted what, and when")
    captures: tuple[str, ...] = Field((), description="files of packets on nodes, each with its hash")
    lessons: tuple[str, ...] = Field(description="what the steps say about the next time")


def incident_record(
    subject: str, cluster: str, incident: Incident | None, alerts: Sequence[Alert], actions: Sequence[Action]
) -> IncidentRecord:
    """The record of some alerts (latest revisions) and the steps of their responses, in any order."""
    steps = sorted(actions, key=lambda step: step.at)
    told = sorted(alerts, key=lambda alert: (alert.detected_at, alert.id))
    lines = [RecordLine(at=a.detected_at, what="alert", who=a.detector, text=a.explanation) for a in told]
    lines += [
        RecordLine(at=s.at, what=s.outcome, who=s.operator or "sluicegate", text=f"{s.action or s.target}: {s.message}")
        for s in steps
    ]
    worst = max((a.severity for a in told), key=SEVERITIES.index, default="info")
    named = {end for a in told for end in map(_name, a.attackers)}, {end for a in told for end in map(_name, a.victims)}
    kinds = ", ".join(dict.fromkeys(a.kind for a in told)) or "steps without a known alert"
    return IncidentRecord(
        subject=subject,
        cluster=cluster,
        severity=incident.severity if incident is not None else worst,
        summary=incident.summary if incident is not None else kinds,
        attackers=incident.attackers if incident is not None else tuple(sorted(named[0])),
        victims=incident.victims if incident is not None else tuple(sorted(named[1])),
        techniques=tuple(sorted({t for a in told for t in a.techniques})),
        timeline=tuple(sorted(lines, key=lambda line: line.at)),
        evidence=tuple(map(_evidence, told)),
        responses=tuple(dict.fromkeys(s.response_id for s in steps if s.response_id)),
        approvals=tuple(f"{s.at} {s.operator} {s.outcome} {s.response_id}: {s.message}" for s in steps if s.operator),
        captures=tuple(f"{s.target}: {s.message}" for s in steps if s.outcome == "node_captured"),
        lessons=tuple(_lessons(told, steps)),
    )


def markdown(record: IncidentRecord) -> str:
    """The record as a Markdown document; what came from outside cannot form markup."""
    lines = [f"# Incident record {_safe(record.subject)}", "", _safe(record.summary), ""]
    facts = (("Cluster", record.cluster), ("Severity", record.severity), ("Attackers", ", ".join(record.attackers)),
             ("Victims", ", ".join(record.victims)), ("Techniques", ", ".join(record.techniques)),
             ("Responses", ", ".join(record.responses)))  # fmt: skip
    lines += [f"- {name}: {_safe(text) or 'none'}" for name, text in facts]
    lines += ["", "## Timeline", "", "| time (UTC) | what | who | |", "|---|---|---|---|"]
    lines += [f"| {line.at} | {line.what} | {_safe(line.who)} | {_safe(line.text)} |" for line in record.timeline]
    lines += ["", "## Evidence", ""]
    for item in record.evidence:
        forged = ", could be forged" if item.spoofable else ""
        lines.append(f"- {_safe(item.kind)} ({item.severity}, confidence {item.confidence:g}{forged}): "
                     f"{_safe(item.explanation)}")  # fmt: skip
        lines += [f"    - {_safe(value)}" for value in item.values]
    lines += [f"- captured: {_safe(line)}" for line in record.captures]
    lines += ["", "## Who decided", ""]
    lines += [f"- {_safe(line)}" for line in record.approvals] or ["- nobody: no operator said anything"]
    lines += ["", "## Lessons", ""]
    lines += [f"- {_safe(line)}" for line in record.lessons] or ["- none that the steps show"]
    return "\n".join(lines) + "\n"


def _lessons(alerts: Sequence[Alert], steps: Sequence[Action]) -> Iterator[str]:
    outcomes = Counter(step.outcome for step in steps)
    first = next((s for s in steps if s.outcome in _DONE and contains(s.action)), None)
    if first is not None:
        took = from_iso(first.at) - first.decided_tick
        yield f"contained {took:.0f} s after the tick that was decided on, by {first.action}"
    elif steps:
        yield "nothing that stops it was applied: see the refusals below and the mode of the policy file"
    for reason, count in sorted(Counter(s.reason for s in steps if s.outcome == "refused").items()):
        yield f"refused {count} times for {reason}: docs/response.md says what that means"
    if outcomes["missed"]:
        yield f"the deadline was missed {outcomes['missed']} times: approve sooner, or let this kind be enforced"
    if outcomes["ineffective"]:
        yield "a policy was applied and packets were still answered: the enforcer did not do what the proof says"
    if outcomes["repaired"] or any(s.reason == "contested" for s in steps):
        yield f"somebody changed our objects {outcomes['repaired']} times: exempt them from the other controller"
    level = max((s.level for s in steps), default=0)
    if level:
        yield f"the attacker came back {level} times: remove the cause, containment only bridges the time"
    if first is not None and not any(s.outcome in _ENDS for s in steps):
        yield "a containment still stands"
    if any(alert.data_quality.lost_packets or alert.data_quality.lost_messages for alert in alerts):
        yield "telemetry was lost while it happened: the record may be incomplete"


def _evidence(alert: Alert) -> RecordEvidence:
    values = tuple(
        f"{item.name} {item.value:g} {item.unit}".strip()
        + (f", limit {item.limit:g}" if item.limit is not None else "")
        for item in alert.evidence
    )
    return RecordEvidence(
        alert_id=alert.id,
        kind=alert.kind,
        severity=alert.severity,
        confidence=alert.confidence,
        explanation=alert.explanation,
        values=values,
        spoofable=alert.spoofable,
    )


def _name(end: Endpoint) -> str:
    return f"{end.namespace}/{end.pod}" if end.pod else end.service or end.ip or end.mac or "unknown"


def _safe(text: str) -> str:
    return _MARKUP.sub(r"\\\1", _CONTROL.sub(" ", text))


def of_subject(
    subject: str, incidents: Iterable[Incident], alerts: Iterable[Alert], actions: Iterable[Action]
) -> tuple[Incident | None, list[Alert], list[Action]]:
    """What belongs to an id of an incident, an alert or a response: latest revisions, and all steps."""
    incident: Incident | None = None
    for item in incidents:
        if item.id == subject and (incident is None or item.revision >= incident.revision):
            incident = item
    steps = list(actions)
    wanted = {entry.id for entry in incident.alerts} if incident is not None else {subject}
    wanted |= {step.alert_id for step in steps if step.response_id == subject and step.alert_id}
    latest: dict[str, Alert] = {}
    for alert in alerts:
        if alert.id in wanted and (alert.id not in latest or alert.revision >= latest[alert.id].revision):
            latest[alert.id] = alert
    return incident, list(latest.values()), [s for s in steps if s.alert_id in wanted or s.response_id == subject]
