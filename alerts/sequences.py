"""Rules over alerts: what several alerts say together, as alerts of its own.

A book is fed the alerts of each tick in (id, revision) order and answers with alert revisions. What a rule
finds becomes an episode like any detector's finding, so ids, revisions and ends follow the same rules.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel

from alerts.episodes import EpisodeBook
from alerts.exceptions import Exceptions
from alerts.sequence_finding import Seen, sequence_finding
from alerts.sequence_groups import Group, groups_of, means, values_of
from alerts.settings import AlertSettings
from alerts.snapshots import dump, load
from schemas.alert import Alert
from schemas.finding import Finding
from schemas.sequence import SEQUENCE, SequenceRule, Step
from schemas.word import from_iso


class SequenceCounts(BaseModel):
    """What happened since the state began; for metrics."""

    found: int = 0
    forgotten: int = 0
    strangers: int = 0


class _State(BaseModel):
    version: Literal[1] = 1
    tick: int | None
    seen: list[Seen]
    held: list[tuple[str, Finding]]
    episodes: dict[str, Any]
    counts: SequenceCounts


# (rule, step, group) to the ids of alerts
_Place = tuple[str, str, Group]


class SequenceBook:
    """What rules over alerts remember: at most ``max_alerts`` alerts, and the episodes of what was found.

    An alert counts from its detection until ``timespan`` after its end. One that is never closed counts as
    ended after the patience that incidents have.
    """

    def __init__(self, rules: Sequence[SequenceRule], settings: AlertSettings, exceptions: Exceptions) -> None:
        self._rules = tuple(rules)
        self._settings = settings
        self._exceptions = exceptions
        self._longest = max((rule.timespan for rule in rules), default=0)
        self._tick: int | None = None
        self._seen: dict[str, Seen] = {}
        self._places: dict[_Place, dict[str, None]] = {}
        self._held: list[tuple[str, Finding]] = []
        self._episodes: dict[str, EpisodeBook] = {}
        self.counts = SequenceCounts()

    def observe(self, tick: int, alerts: Sequence[Alert]) -> list[Alert]:
        """Take in the alerts of a tick; returns the revisions due up to it, by (tick, id).

        Alerts of a tick that was already told are late: what they lead to is said with the next tick.

        Args:
            tick: s since epoch; not before the last one.
            alerts: in (id, revision) order.
        """
        if not self._rules:
            return []
        self._forget(tick)
        for alert in alerts:
            if alert.detector != SEQUENCE:
                self._take(tick, alert)
        if self._tick is not None and tick <= self._tick:
            return []
        self._tick = tick
        held, self._held = self._held, []
        for cluster, _ in held:
            if cluster not in self._episodes:
                self._episodes[cluster] = EpisodeBook(cluster, self._settings.episodes, self._exceptions)
        out = [alert for cluster, book in self._episodes.items()
               for alert in book.observe(tick, [f for c, f in held if c == cluster])]  # fmt: skip
        self._episodes = {cluster: book for cluster, book in self._episodes.items() if book.open_count}
        return sorted(out, key=lambda a: (a.tick, a.id))

    def _take(self, tick: int, alert: Alert) -> None:
        places = dict.fromkeys(self._places_of(alert))
        if alert.id not in self._seen and places and self._strange(alert.cluster):
            self.counts.strangers += 1
            return
        known = self._seen.pop(alert.id, None)
        before = dict.fromkeys(self._places_of(known.alert)) if known is not None else {}
        self._remove(alert.id, [place for place in before if place not in places])
        if not places:
            return
        wait = 0 if alert.status == "closed" else self._settings.incidents.patience
        self._seen[alert.id] = Seen(alert=alert, detected=_detected(alert, tick), ended=tick + wait)
        fresh = [place for place in places if place not in before]
        for place in fresh:
            self._places.setdefault(place, {})[alert.id] = None
        if len(self._seen) > self._settings.sequences.max_alerts:
            self._drop(next(iter(self._seen)))
            self.counts.forgotten += 1
        touched = {(rule, group): None for rule, _, group in fresh}
        for rule in self._rules:
            for name, group in touched:
                if name == rule.name:
                    self._judge(tick, rule, group)

    def _strange(self, cluster: str) -> bool:
        known = {seen.alert.cluster for seen in self._seen.values()}
        return cluster not in known and len(known) >= self._settings.sequences.max_clusters

    def _places_of(self, alert: Alert) -> list[_Place]:
        return [
            (rule.name, step.name, group)
            for rule in self._rules
            for step in rule.steps
            if means(step, alert)
            for group in groups_of(rule, step, alert)
        ]

    def _judge(self, tick: int, rule: SequenceRule, group: Group) -> None:
        steps = {step.name: self._present(tick, rule, step, group) for step in rule.steps}
        value = _holds(rule, steps)
        if value is None:
            return
        self.counts.found += 1
        self._held.append((group[0], sequence_finding(rule, group[1:], steps, tick, value)))

    def _present(self, tick: int, rule: SequenceRule, step: Step, group: Group) -> list[Seen]:
        ids = self._places.get((rule.name, step.name, group), ())
        found = (self._seen[i] for i in ids)
        return sorted((s for s in found if tick - s.ended <= rule.timespan), key=lambda s: (s.detected, s.alert.id))

    def _forget(self, tick: int) -> None:
        for identity in [i for i, s in self._seen.items() if tick - s.ended > self._longest]:
            self._drop(identity)

    def _drop(self, identity: str) -> None:
        self._remove(identity, dict.fromkeys(self._places_of(self._seen.pop(identity).alert)))

    def _remove(self, identity: str, places: Collection[_Place]) -> None:
        for place in places:
            ids = self._places[place]
            del ids[identity]
            if not ids:
                del self._places[place]

    def snapshot(self) -> bytes:
        """Return the whole state as JSON; equal states are equal bytes."""
        state = _State(
            tick=self._tick, seen=list(self._seen.values()), held=self._held, counts=self.counts,
            episodes={c: orjson.loads(book.snapshot()) for c, book in sorted(self._episodes.items())},
        )  # fmt: skip
        return dump(state)

    def restore(self, value: bytes) -> None:
        """Replace the state by what ``snapshot`` returned; rules that changed meanwhile see it by their own light.

        Raises:
            SnapshotError: not such a snapshot, or of another version; the state is as it was.
        """
        state = load(_State, value, "sequences")
        episodes = {}
        for cluster, snapshot in state.episodes.items():
            episodes[cluster] = EpisodeBook(cluster, self._settings.episodes, self._exceptions)
            episodes[cluster].restore(orjson.dumps(snapshot))
        self._tick, self._held, self.counts, self._episodes = state.tick, state.held, state.counts, episodes
        self._seen, self._places = {}, {}
        for seen in state.seen:
            places = self._places_of(seen.alert)
            if places:
                self._seen[seen.alert.id] = seen
            for place in places:
                self._places.setdefault(place, {})[seen.alert.id] = None


def _detected(alert: Alert, tick: int) -> float:
    try:
        return from_iso(alert.detected_at)
    except ValueError:
        return tick


def _holds(rule: SequenceRule, steps: dict[str, list[Seen]]) -> int | None:
    """Return the rule's main value where its condition holds, else none."""
    if rule.type == "temporal":
        return len(steps) if all(steps.values()) else None
    if rule.type == "temporal_ordered":
        return len(steps) if _ordered(list(steps.values())) else None
    alerts = {s.alert.id: s.alert for seen in steps.values() for s in seen}
    if rule.counted is None:
        value = len(alerts)
    else:
        field = rule.counted
        value = len({v for alert in alerts.values() for v in values_of(field, alert)})
    return value if value >= rule.at_least else None


def _ordered(steps: list[list[Seen]]) -> bool:
    """Tell whether each step can be given an alert that was detected after that of the step before it.

    To take the earliest that is late enough is best for all that follow. What was detected in the same
    second has no order.
    """
    last = float("-inf")
    for seen in steps:
        later = [s.detected for s in seen if s.detected > last]
        if not later:
            return False
        last = min(later)
    return True
