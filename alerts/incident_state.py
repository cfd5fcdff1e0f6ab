"""One open incident: its alerts, whom they are about, and until when it waits for more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, Field

from alerts.linking import told_attackers
from alerts.settings import IncidentSettings
from alerts.stages import stages_of
from alerts.wording import duration, name, number, printable
from schemas.alert import CONTAINMENT_OVERDUE, Alert
from schemas.finding import SEVERITIES, Severity
from schemas.incident import STAGES, Incident, IncidentAlert, IncidentStage, Stage
from schemas.sequence import SEQUENCE
from schemas.word import iso_time

MAX_NAMES = 20
MAX_LISTED = 100
MAX_KEYS = 512
MAX_TECHNIQUES = 32
_MAX_DEEDS = 8


class Member(BaseModel):
    """An alert that an incident follows."""

    revision: int
    deadline: int = Field(description="tick up to which it keeps the incident open, s since epoch")


class IncidentState(BaseModel):
    """Everything about an open incident; written to snapshots as it is. Ticks are s since epoch."""

    id: str
    cluster: str
    opened: int
    severity: Severity
    started_at: str
    updated: int
    revision: int = 0
    total: int = 0
    deadline: int = 0
    attackers: list[str] = Field(default_factory=list)
    victims: list[str] = Field(default_factory=list)
    techniques: list[str] = Field(default_factory=list)
    deeds: list[str] = Field(default_factory=list, description="what was done and by whom, each in words")
    alerts: list[IncidentAlert] = Field(default_factory=list)
    members: dict[str, Member] = Field(default_factory=dict)
    keys: list[str] = Field(default_factory=list)
    proven: bool = Field(False, description="an alert's evidence cannot have been forged")
    stages: dict[Stage, IncidentStage] = Field(default_factory=dict)

    def take(self, tick: int, alert: Alert, fresh: bool, settings: IncidentSettings) -> bool:
        """Take in one revision of an alert; ``fresh``: of an alert not counted before.

        Returns whether there is something new to say.
        """
        news = fresh or SEVERITIES.index(alert.severity) > SEVERITIES.index(self.severity)
        self.updated = tick
        self.severity = max(self.severity, alert.severity, key=SEVERITIES.index)
        self.started_at = min(self.started_at, alert.started_at)
        self.proven = self.proven or not alert.spoofable
        self._reach(alert, fresh)
        if fresh:
            self.total += 1
            if len(self.alerts) < MAX_LISTED:
                self.alerts.append(listed(alert))
        if alert.id in self.members or len(self.members) < settings.max_alerts:
            wait = settings.window if alert.status == "closed" else settings.patience
            self.members[alert.id] = Member(revision=alert.revision, deadline=tick + wait)
        # One that is not followed still keeps the incident open for a while.
        self.deadline = max([tick + settings.window, *(m.deadline for m in self.members.values())])
        extend(self.attackers, map(name, told_attackers(alert)), MAX_NAMES)
        extend(self.victims, map(name, alert.victims), MAX_NAMES)
        extend(self.techniques, alert.techniques, MAX_TECHNIQUES)
        extend(self.deeds, [_deed(alert)], _MAX_DEEDS)
        return news

    def _reach(self, alert: Alert, fresh: bool) -> None:
        """Note the stages of an alert; one whose techniques grew is counted where it began.

        A sequence only repeats what its alerts have said.
        """
        if alert.detector == SEQUENCE:
            return
        for stage in stages_of(alert.techniques):
            self._extend_stage(
                IncidentStage(stage=stage, first_at=alert.detected_at, last_at=alert.ended_at, alerts=1), fresh
            )

    def _extend_stage(self, more: IncidentStage, count: bool) -> None:
        known = self.stages.get(more.stage)
        if known is None:
            self.stages[more.stage] = more
            return
        self.stages[more.stage] = IncidentStage(
            stage=more.stage, first_at=min(known.first_at, more.first_at), last_at=max(known.last_at, more.last_at),
            alerts=known.alerts + more.alerts * count,
        )  # fmt: skip

    def absorb(self, other: IncidentState, settings: IncidentSettings) -> None:
        """Take over all of an incident that turned out to be the same."""
        self.severity = max(self.severity, other.severity, key=SEVERITIES.index)
        self.started_at = min(self.started_at, other.started_at)
        self.updated = max(self.updated, other.updated)
        self.deadline = max(self.deadline, other.deadline)
        self.total += other.total
        extend(self.attackers, other.attackers, MAX_NAMES)
        extend(self.victims, other.victims, MAX_NAMES)
        extend(self.techniques, other.techniques, MAX_TECHNIQUES)
        extend(self.deeds, other.deeds, _MAX_DEEDS)
        self.proven = self.proven or other.proven
        for stage in other.stages.values():
            self._extend_stage(stage, True)
        self.alerts = sorted([*self.alerts, *other.alerts], key=_time)[:MAX_LISTED]
        members = sorted({**other.members, **self.members}.items(), key=lambda m: (-m[1].deadline, m[0]))
        self.members = dict(members[: settings.max_alerts])

    def word(self, tick: int, status: Literal["open", "closed"], note: str = "") -> Incident:
        """Return the next revision; the note is added to its summary."""
        self.revision += 1
        return Incident(
            id=self.id, revision=self.revision, status=status, cluster=self.cluster, severity=self.severity,
            started_at=self.started_at, updated_at=iso_time(self.updated), tick=tick,
            attackers=tuple(self.attackers), victims=tuple(self.victims), techniques=tuple(self.techniques),
            stages=tuple(sorted(self.stages.values(), key=lambda s: (s.first_at, STAGES.index(s.stage)))),
            alerts=tuple(sorted(self.alerts, key=_time)), alerts_total=self.total, summary=self._summary() + note,
        )  # fmt: skip

    def _summary(self) -> str:
        what = ", then ".join(self.deeds)
        whom = f", against {_people(self.victims)}" if self.victims else ""
        count = f"{number(self.total)} alert{'s' if self.total > 1 else ''} in {duration(self.updated - self.opened)}"
        return f"{what}{whom}: {count}, severity {self.severity}."


def _deed(alert: Alert) -> str:
    """Say a kind with its own attackers: those of another alert must not answer for it."""
    kind, names = printable(alert.kind, 64), [name(e) for e in told_attackers(alert)]
    if alert.detector == CONTAINMENT_OVERDUE:
        return kind
    if names:
        return f"{kind} by {_people(names)}"
    return f"{kind} from addresses that could be forged" if alert.spoofable else kind


def _people(names: list[str]) -> str:
    more = len(names) - 2
    return " and ".join(names[:2]) if more <= 0 else f"{names[0]}, {names[1]} and {more} more"


def listed(alert: Alert) -> IncidentAlert:
    """Return an alert's line in an incident."""
    return IncidentAlert(
        id=alert.id, detector=alert.detector, kind=alert.kind, severity=alert.severity,
        detected_at=alert.detected_at, explanation=alert.explanation, stages=stages_of(alert.techniques),
    )  # fmt: skip


def _time(alert: IncidentAlert) -> tuple[str, str]:
    return alert.detected_at, alert.id


def extend(target: list[str], more: Iterable[str], limit: int) -> None:
    """Append what is not there yet, up to a length."""
    for item in more:
        if len(target) < limit and item not in target:
            target.append(item)
