"""Incidents: alerts of all senders, put together by whom they are about.

Alerts wait until every sender's watermark has passed their tick and are then taken in (tick, id,
revision) order, so how the senders' records interleave on the topic changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Literal

import orjson
from pydantic import BaseModel

from alerts.exceptions import Exceptions
from alerts.identifiers import identifier
from alerts.incident_index import IncidentIndex
from alerts.incident_state import IncidentState
from alerts.linking import links_of
from alerts.sequences import SequenceBook
from alerts.settings import AlertSettings
from alerts.snapshots import dump, load
from schemas.alert import CONTAINMENT_OVERDUE, Alert, AlertRecord, Watermark
from schemas.finding import SEVERITIES
from schemas.incident import Incident
from schemas.sequence import SEQUENCE, SequenceRule

# Watermarks beyond these come from no deployment of ours: 4,096 partitions are far above any topic's count.
MAX_SENDERS = 4096


class IncidentCounts(BaseModel):
    """What happened since the state began; for metrics."""

    opened: int = 0
    closed: int = 0
    merged: int = 0
    repeats: int = 0
    late: int = 0
    forced: int = 0
    evicted: int = 0
    strangers: int = 0


class _Seen(BaseModel):
    revision: int
    incident: str


class _State(BaseModel):
    version: Literal[2] = 2
    senders: int
    marks: dict[str, int]
    closed_tick: int | None
    pending: list[Alert]
    seen: dict[str, _Seen]
    counts: IncidentCounts
    incidents: list[IncidentState]
    sequences: Any


class IncidentBook:
    """All open incidents of all clusters on one alerts topic, and what rules over alerts say of them."""

    def __init__(
        self,
        settings: AlertSettings | None = None,
        sequences: Sequence[SequenceRule] = (),
        exceptions: Exceptions | None = None,
    ) -> None:
        everything = settings or AlertSettings()
        self._settings = everything.incidents
        self.sequences = SequenceBook(sequences, everything, exceptions or Exceptions())
        self._index = IncidentIndex()
        self._senders = 1
        self._marks: dict[str, int] = {}
        self._closed_tick: int | None = None
        self._pending: list[Alert] = []
        self._seen: dict[str, _Seen] = {}
        self.counts = IncidentCounts()

    @property
    def open_count(self) -> int:
        """The number of open incidents."""
        return len(self._index.incidents)

    @property
    def waiting(self) -> int:
        """The number of alerts that wait for a watermark."""
        return len(self._pending)

    @property
    def closed_tick(self) -> int | None:
        """The tick up to which all senders have said everything, s since epoch; none yet: ``None``."""
        return self._closed_tick

    def add(self, record: AlertRecord) -> list[Alert | Incident]:
        """Take in one record of alerts.v1; returns the revisions that became due.

        Incidents come by (tick, id), and so do the alerts of sequences, each before the incident that it is
        in. These alerts were taken in when they were made: where they come back on the topic, they are
        passed over.

        A repeated (id, revision) changes nothing. An alert below the closed tick that is no repeat means
        that its sender broke its word or started over: it is taken at the closed tick, and counted.
        """
        if isinstance(record, Watermark):
            return self._mark(record)
        if record.detector == SEQUENCE:
            return []
        if self._closed_tick is not None and record.tick <= self._closed_tick:
            if not self._repeated(record):
                # Who says that something is overdue says it afterwards.
                self.counts.late += record.detector != CONTAINMENT_OVERDUE
                return self._take_tick(self._closed_tick, [record])
            return []
        self._pending.append(record)
        if len(self._pending) <= self._settings.max_pending:
            return []
        earliest = min(alert.tick for alert in self._pending)
        self.counts.forced += sum(alert.tick == earliest for alert in self._pending)
        return self._advance(earliest)

    def _mark(self, mark: Watermark) -> list[Alert | Incident]:
        if mark.sender not in self._marks and len(self._marks) >= MAX_SENDERS:
            self.counts.strangers += 1
            return []
        self._senders = max(self._senders, mark.senders)
        self._marks[mark.sender] = max(mark.tick, self._marks.get(mark.sender, mark.tick))
        lowest = min(self._marks.values())
        if len(self._marks) < self._senders or (self._closed_tick is not None and lowest <= self._closed_tick):
            return []
        return self._advance(lowest)

    def _advance(self, tick: int) -> list[Alert | Incident]:
        due = sorted((a for a in self._pending if a.tick <= tick), key=_order)
        self._pending = [a for a in self._pending if a.tick > tick]
        self._closed_tick = tick
        out: list[Alert | Incident] = []
        for now, alerts in groupby(due, key=lambda a: a.tick):
            out += self._pass(now - 1)
            out += self._take_tick(now, alerts)
        return out + self._pass(tick)

    def _pass(self, tick: int) -> list[Alert | Incident]:
        """Let time pass up to a tick: episodes of sequences end, and incidents."""
        out: list[Alert | Incident] = []
        for now, alerts in groupby(self.sequences.observe(tick, ()), key=lambda a: a.tick):
            out += self._expire(now - 1)
            out += self._join(now, list(alerts))
        return out + self._expire(tick)

    def _take_tick(self, tick: int, alerts: Iterable[Alert]) -> list[Alert | Incident]:
        """Take all alerts of one tick in order, and what sequences make of them."""
        fresh: dict[tuple[str, int], Alert] = {}
        for alert in alerts:
            if (alert.id, alert.revision) in fresh:
                self.counts.repeats += 1
            elif not self._repeated(alert):
                fresh[alert.id, alert.revision] = alert
        own = self.sequences.observe(tick, list(fresh.values()))
        return self._join(tick, [*fresh.values(), *own], own)

    def _join(self, tick: int, alerts: Iterable[Alert], own: Iterable[Alert] | None = None) -> list[Alert | Incident]:
        """Put alerts into incidents; an incident says at most one revision about them. ``own``: all by default."""
        out: list[Incident] = []
        touched: set[str] = set()
        told: list[Alert | Incident] = list(alerts if own is None else own)
        for alert in alerts:
            links = links_of(alert)
            same = self._index.matching(alert.id, links)
            home = self._merged(tick, same, out) if same else self._opened(tick, alert, out)
            fresh = home is not None and self._fresh(alert, home)
            self._remember(alert, home)
            if home is None:
                continue
            news = home.take(tick, alert, fresh, self._settings)
            self._index.link(home, alert.id, links.left())
            if news or len(same) > 1:
                touched.add(home.id)
        out += [i.word(tick, "open") for i in self._index.incidents.values() if i.id in touched]
        out += self._expire(tick)
        return [*told, *sorted(out, key=lambda i: i.id)]

    def _merged(self, tick: int, same: list[IncidentState], out: list[Incident]) -> IncidentState:
        """Return the oldest of the incidents after it has taken over the others."""
        home = same[0]
        for other in same[1:]:
            self._index.merge(home, other, self._settings)
            self.counts.merged += 1
            out.append(other.word(tick, "closed", f" It goes on as incident {home.id}."))
        return home

    def _opened(self, tick: int, alert: Alert, out: list[Incident]) -> IncidentState | None:
        """Return a new incident, or none where the alert alone is too slight."""
        if SEVERITIES.index(alert.severity) < SEVERITIES.index(self._settings.open_severity):
            return None
        if self.open_count >= self._settings.max_open:
            quietest = self._index.quietest()
            self._index.drop(quietest)
            self.counts.evicted += 1
            out.append(quietest.word(tick, "closed", " Closed early: too many incidents are open."))
        home = IncidentState(
            id=identifier("incident", alert.cluster, alert.id, tick), cluster=alert.cluster, opened=tick,
            severity=alert.severity, started_at=alert.started_at, updated=tick,
        )  # fmt: skip
        self._index.add(home)
        self.counts.opened += 1
        return home

    def _expire(self, tick: int) -> list[Incident]:
        due = sorted(
            (i for i in self._index.incidents.values() if i.deadline <= tick), key=lambda i: (i.deadline, i.id)
        )
        for incident in due:
            self._index.drop(incident)
        self.counts.closed += len(due)
        return [incident.word(incident.deadline, "closed") for incident in due]

    def _repeated(self, alert: Alert) -> bool:
        seen = self._seen.get(alert.id)
        repeated = seen is not None and seen.revision >= alert.revision
        self.counts.repeats += repeated
        return repeated

    def _fresh(self, alert: Alert, home: IncidentState) -> bool:
        """Tell whether an incident has not counted an alert yet; not all that it counted is it able to follow."""
        seen = self._seen.get(alert.id)
        return not self._index.follows(alert.id) and (seen is None or seen.incident != home.id)

    def _remember(self, alert: Alert, home: IncidentState | None) -> None:
        self._seen.pop(alert.id, None)
        self._seen[alert.id] = _Seen(revision=alert.revision, incident=home.id if home else "")
        if len(self._seen) > self._settings.max_seen:
            del self._seen[next(iter(self._seen))]

    def snapshot(self) -> bytes:
        """Return the whole state as JSON; equal states are equal bytes."""
        incidents = sorted(self._index.incidents.values(), key=lambda i: i.id)
        state = _State(
            senders=self._senders, marks=dict(sorted(self._marks.items())), closed_tick=self._closed_tick,
            pending=sorted(self._pending, key=_order), seen=self._seen, counts=self.counts, incidents=incidents,
            sequences=orjson.loads(self.sequences.snapshot()),
        )  # fmt: skip
        return dump(state)

    def restore(self, value: bytes) -> None:
        """Replace the state by what ``snapshot`` returned.

        Raises:
            SnapshotError: not such a snapshot, or of another version.
        """
        state = load(_State, value, "incidents")
        self.sequences.restore(orjson.dumps(state.sequences))
        self._index = IncidentIndex(state.incidents)
        self._senders, self._marks, self._closed_tick = state.senders, state.marks, state.closed_tick
        self._pending, self._seen, self.counts = state.pending, state.seen, state.counts


def _order(alert: Alert) -> tuple[int, str, int, str]:
    return alert.tick, alert.id, alert.revision, alert.node
