"""Incidents: alerts of all senders, put together by whom they are about.

Alerts wait until every sender's watermark has passed their tick and are then taken in (tick, id,
revision) order, so how the senders' records interleave on the topic changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel

from alerts.identifiers import identifier
from alerts.incident_index import IncidentIndex
from alerts.incident_state import IncidentState
from alerts.linking import links_of
from alerts.settings import IncidentSettings
from alerts.snapshots import dump, load
from schemas.alert import Alert, AlertRecord, Watermark
from schemas.finding import SEVERITIES
from schemas.incident import Incident

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


class IncidentBook:
    """All open incidents of all clusters on one alerts topic."""

    def __init__(self, settings: IncidentSettings | None = None) -> None:
        self._settings = settings or IncidentSettings()
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

    def add(self, record: AlertRecord) -> list[Incident]:
        """Take in one record of alerts.v1; returns the revisions that became due, by (tick, id).

        A repeated (id, revision) changes nothing. An alert below the closed tick that is no repeat means
        that its sender broke its word or started over: it is taken at the closed tick, and counted.
        """
        if isinstance(record, Watermark):
            return self._mark(record)
        if self._closed_tick is not None and record.tick <= self._closed_tick:
            if not self._repeated(record):
                self.counts.late += 1
                return self._take_tick(self._closed_tick, [record])
            return []
        self._pending.append(record)
        if len(self._pending) <= self._settings.max_pending:
            return []
        earliest = min(alert.tick for alert in self._pending)
        self.counts.forced += sum(alert.tick == earliest for alert in self._pending)
        return self._advance(earliest)

    def _mark(self, mark: Watermark) -> list[Incident]:
        if mark.sender not in self._marks and len(self._marks) >= MAX_SENDERS:
            self.counts.strangers += 1
            return []
        self._senders = max(self._senders, mark.senders)
        self._marks[mark.sender] = max(mark.tick, self._marks.get(mark.sender, mark.tick))
        lowest = min(self._marks.values())
        if len(self._marks) < self._senders or (self._closed_tick is not None and lowest <= self._closed_tick):
            return []
        return self._advance(lowest)

    def _advance(self, tick: int) -> list[Incident]:
        due = sorted((a for a in self._pending if a.tick <= tick), key=_order)
        self._pending = [a for a in self._pending if a.tick > tick]
        self._closed_tick = tick
        out: list[Incident] = []
        for now in sorted({alert.tick for alert in due}):
            out += self._expire(now - 1)
            out += self._take_tick(now, [a for a in due if a.tick == now])
        return out + self._expire(tick)

    def _take_tick(self, tick: int, alerts: Iterable[Alert]) -> list[Incident]:
        """Take all alerts of one tick in order; an incident says at most one revision about them."""
        out: list[Incident] = []
        touched: set[str] = set()
        for alert in alerts:
            if self._repeated(alert):
                continue
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
        return sorted(out, key=lambda i: i.id)

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
        )  # fmt: skip
        return dump(state)

    def restore(self, value: bytes) -> None:
        """Replace the state by what ``snapshot`` returned.

        Raises:
            SnapshotError: not such a snapshot, or of another version.
        """
        state = load(_State, value, "incidents")
        self._index = IncidentIndex(state.incidents)
        self._senders, self._marks, self._closed_tick = state.senders, state.marks, state.closed_tick
        self._pending, self._seen, self.counts = state.pending, state.seen, state.counts


def _order(alert: Alert) -> tuple[int, str, int, str]:
    return alert.tick, alert.id, alert.revision, alert.node
