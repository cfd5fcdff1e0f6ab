"""The open episodes of one sender: findings in, alert revisions out.

What comes out depends on the findings of each tick and on nothing else: not on the order within a
tick, not on whether ticks without findings are told, not on snapshots taken and restored between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel

from alerts.episode import Episode
from alerts.exceptions import Exceptions
from alerts.identifiers import identifier
from alerts.settings import EpisodeSettings
from alerts.snapshots import SnapshotError, dump, load
from alerts.suppression import silencers
from schemas.alert import Alert
from schemas.finding import SEVERITIES, Evidence, Finding

OVERFLOW = "alert_overflow"
_OVERFLOW_QUIET = 60

_Key = tuple[bool, str, str, str]


class EpisodeCounts(BaseModel):
    """What happened since the state began; for metrics."""

    opened: int = 0
    revised: int = 0
    closed: int = 0
    silenced: int = 0
    shed: int = 0
    excepted: int = 0


class _State(BaseModel):
    version: Literal[1] = 1
    cluster: str
    tick: int | None
    shed_now: int
    counts: EpisodeCounts
    episodes: list[Episode]


class EpisodeBook:
    """All open episodes of one cluster at one sender of alerts; at most ``settings.max_open`` and one more."""

    def __init__(
        self, cluster: str, settings: EpisodeSettings | None = None, exceptions: Exceptions | None = None
    ) -> None:
        self._cluster = cluster
        self._settings = settings or EpisodeSettings()
        self._exceptions = exceptions or Exceptions()
        self._open: dict[_Key, Episode] = {}
        self._tick: int | None = None
        self._shed_now = 0
        self.counts = EpisodeCounts()

    @property
    def open_count(self) -> int:
        """The number of open episodes."""
        return len(self._open)

    def observe(self, tick: int, findings: Sequence[Finding]) -> list[Alert]:
        """Take in all findings of a closed tick; returns the revisions due up to it, by (tick, id).

        Ticks without findings may be left out, but not before a watermark is sent for one: a revision
        that closes an episode bears the tick at which its quiet time ended.

        Args:
            tick: the tick, s since epoch; each call's is larger than the last one's.
            findings: all of this tick, in any order; the book's tick counts, not their own.

        Raises:
            ValueError: the tick is not later than the last one.
        """
        if self._tick is not None and tick <= self._tick:
            problem = f"tick {tick} is not after {self._tick}: each tick is told once and in order"
            raise ValueError(problem)
        self._tick = tick
        alerts = self._close(tick - 1)
        wanted = [f for f in findings if not self._exceptions.covers(f, tick)]
        self.counts.excepted += len(findings) - len(wanted)
        now = self._take(tick, wanted) if wanted else []
        now += self._close(tick)
        return alerts + sorted(now, key=lambda a: a.id)

    def close_quiet(self, tick: int) -> list[Alert]:
        """Return the closing revisions due up to a tick that had no findings, or after the end of data.

        Raises:
            ValueError: the tick is before the last one.
        """
        if tick == self._tick:
            return []
        return self.observe(tick, ())

    def _close(self, tick: int) -> list[Alert]:
        due = [key for key, episode in self._open.items() if episode.deadline <= tick]
        episodes = sorted((self._open.pop(key) for key in due), key=lambda e: (e.deadline, e.id))
        self.counts.closed += len(episodes)
        if any(e.detector == OVERFLOW for e in episodes):
            self._shed_now = 0
        return [episode.alert(episode.deadline, "closed") for episode in episodes]

    def _take(self, tick: int, findings: Sequence[Finding]) -> list[Alert]:
        alerts: list[Alert] = []
        shed = 0
        for key, same in _grouped(findings):
            if self._silenced(same[0]):
                self.counts.silenced += len(same)
            elif key in self._open or self._room(max(map(_rank, same))):
                alerts += self._apply(tick, key, same)
            else:
                shed += len(same)
        if shed:
            overflow = self._overflow(tick, shed)
            alerts += self._apply(tick, _key(overflow), [overflow])
        return alerts

    def _apply(self, tick: int, key: _Key, findings: list[Finding]) -> list[Alert]:
        episode = self._open.get(key)
        opened = episode is None
        if episode is None:
            first = findings[0]
            identity = identifier(self._cluster, first.rule, first.detector, first.subject, tick)
            episode = self._open[key] = Episode.begin(identity, self._cluster, first, tick)
        episode.absorb(tick, findings)
        if episode.why(tick, self._settings) is None:
            return []
        if opened:
            self.counts.opened += 1
        else:
            self.counts.revised += 1
        return [episode.alert(tick, "open")]

    def _silenced(self, finding: Finding) -> bool:
        return any((False, "", detector, finding.subject) in self._open for detector in silencers(finding))

    def _room(self, rank: int) -> bool:
        limit = self._settings.max_open
        if rank < SEVERITIES.index("high"):
            limit -= limit * self._settings.reserved_percent // 100
        # The episode about the overflow itself always finds room and takes none.
        return len(self._open) - ((False, "", OVERFLOW, self._cluster) in self._open) < limit

    def _overflow(self, tick: int, shed: int) -> Finding:
        self.counts.shed += shed
        self._shed_now += shed
        return Finding(
            detector=OVERFLOW, kind=OVERFLOW, title="Findings were shed", severity="high", confidence=1.0,
            tick=tick, started=tick, node="", subject=self._cluster,
            evidence=(
                Evidence(name="shed_findings", value=self._shed_now, limit=0, unit="findings"),
                Evidence(name="open_episodes", value=len(self._open), limit=self._settings.max_open, unit="episodes"),
            ),
            summary=f"{self._shed_now:,} findings opened no alert because {len(self._open):,} alerts are open already",
            spoofable=False, quiet=_OVERFLOW_QUIET,
        )  # fmt: skip

    def snapshot(self) -> bytes:
        """Return the whole state as JSON; equal states are equal bytes."""
        state = _State(
            cluster=self._cluster, tick=self._tick, shed_now=self._shed_now, counts=self.counts,
            episodes=sorted(self._open.values(), key=lambda e: e.id),
        )  # fmt: skip
        return dump(state)

    def restore(self, value: bytes) -> None:
        """Replace the state by what ``snapshot`` returned.

        Raises:
            SnapshotError: not such a snapshot, of another version, or of another cluster.
        """
        state = load(_State, value, "episodes")
        if state.cluster != self._cluster:
            problem = f"snapshot of episodes: of cluster {state.cluster!r}, not of {self._cluster!r}"
            raise SnapshotError(problem)
        self._open = {_key(e): e for e in state.episodes}
        self._tick, self._shed_now, self.counts = state.tick, state.shed_now, state.counts


def _key(item: Finding | Episode) -> _Key:
    return (item.rule is not None, item.rule or "", item.detector, item.subject)


def _rank(finding: Finding) -> int:
    return SEVERITIES.index(finding.severity)


def _grouped(findings: Sequence[Finding]) -> list[tuple[_Key, list[Finding]]]:
    """Return the findings of each episode in an order that depends on their content alone.

    What can silence others comes before what can be silenced; graver before lesser, so that the last
    free places go to what matters most.
    """
    groups: dict[_Key, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(_key(finding), []).append(finding)
    for same in groups.values():
        if len(same) > 1:
            same.sort(key=lambda f: (f.node, f.kind, f.encode()))

    def order(entry: tuple[_Key, list[Finding]]) -> tuple[bool, int, _Key]:
        key, same = entry
        return bool(silencers(same[0])), -max(map(_rank, same)), key

    return sorted(groups.items(), key=order)
