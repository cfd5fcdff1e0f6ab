"""One episode: what has been found about a subject since it began, and what has been said of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from alerts.explain import explanation
from alerts.quality import added, tick_quality
from alerts.ranking import Ranking
from alerts.settings import EpisodeSettings
from schemas.alert import Alert
from schemas.finding import SEVERITIES, DataQuality, Evidence, Finding, Severity
from schemas.word import iso_time

MAX_EVIDENCE = 32
MAX_TECHNIQUES = 16
MAX_KINDS = 16
_MAX_STRENGTH = 1e300  # JSON has no infinity

Reason = Literal["severity", "proven", "kind", "confidence", "growth", "refresh"]


class _Said(BaseModel):
    """What the last revision told, by which the next is judged."""

    tick: int
    severity: Severity
    confidence: float
    strength: float
    spoofable: bool
    kinds: int


class Episode(BaseModel):
    """Everything about an open episode; written to snapshots as it is. Ticks are s since epoch."""

    id: str
    cluster: str
    rule: str | None
    detector: str
    subject: str
    node: str
    kind: str
    kinds: list[str]
    title: str
    summary: str
    severity: Severity
    confidence: float
    strength: float
    spoofable: bool
    response: str | None
    quiet: Annotated[int, Field(ge=1)]
    started: int
    first_tick: int
    last_tick: int
    occurrences: int = 0
    techniques: list[str] = Field(default_factory=list)
    evidence: dict[str, Evidence] = Field(default_factory=dict)
    attackers: Ranking = Field(default_factory=Ranking)
    victims: Ranking = Field(default_factory=Ranking)
    quality: DataQuality = DataQuality()
    revision: int = 0
    said: _Said | None = None

    @classmethod
    def begin(cls, identity: str, cluster: str, first: Finding, tick: int) -> Episode:
        """Return an episode that has not taken in anything yet; ``absorb`` follows with the same finding."""
        return cls(
            id=identity, cluster=cluster, rule=first.rule, detector=first.detector, subject=first.subject,
            node=first.node, kind=first.kind, kinds=[], title=first.title, summary=first.summary,
            severity=first.severity, confidence=first.confidence, strength=0.0, spoofable=first.spoofable,
            response=first.response, quiet=first.quiet, started=first.started, first_tick=tick, last_tick=tick,
        )  # fmt: skip

    @property
    def deadline(self) -> int:
        """The tick at which it closes unless it fires until then (then included)."""
        return self.last_tick + self.quiet

    def absorb(self, tick: int, findings: Sequence[Finding]) -> None:
        """Take in all that one tick found about the subject (at least one finding, in a fixed order)."""
        self.last_tick = tick
        self.occurrences += 1
        self.quality = added(self.quality, tick_quality(findings))
        for finding in findings:
            self._lead(finding)
            self._accumulate(finding)

    def _lead(self, finding: Finding) -> None:
        """Let the strongest finding so far give kind, title, summary and response."""
        strength = strength_of(finding)
        rank, own = SEVERITIES.index(finding.severity), SEVERITIES.index(self.severity)
        fresh = finding.kind not in self.kinds
        same = finding.kind == self.kind
        if rank > own or (rank == own and (fresh or strength > self.strength or (same and strength == self.strength))):
            self.kind, self.title, self.summary = finding.kind, finding.title, finding.summary
            self.severity = finding.severity
            self.response = finding.response or self.response
        if fresh and len(self.kinds) < MAX_KINDS:
            self.kinds.append(finding.kind)
        self.strength = max(self.strength, strength)
        self.confidence = max(self.confidence, finding.confidence)

    def _accumulate(self, finding: Finding) -> None:
        self.started = min(self.started, finding.started)
        self.quiet = max(self.quiet, finding.quiet)
        if finding.node != self.node:
            self.node = ""
        for technique in finding.techniques:
            if technique not in self.techniques and len(self.techniques) < MAX_TECHNIQUES:
                self.techniques.append(technique)
        for item in finding.evidence:
            self._keep_largest(item)
        self.victims.add(finding.victims)
        if self.spoofable and not finding.spoofable:
            # What forged packets named is worth nothing once there is proof; a response acts on these.
            self.spoofable = False
            self.attackers.clear()
        if finding.spoofable == self.spoofable:
            self.attackers.add(finding.attackers)

    def _keep_largest(self, item: Evidence) -> None:
        key = f"{item.name}|{item.unit}|{item.window}"
        known = self.evidence.get(key)
        if (known is None and len(self.evidence) < MAX_EVIDENCE) or (known is not None and item.value > known.value):
            self.evidence[key] = item

    def why(self, tick: int, settings: EpisodeSettings) -> Reason | None:
        """Return why there should be a new revision now, or none. Asked only when it fired in this tick."""
        said = self.said
        if said is None or SEVERITIES.index(self.severity) > SEVERITIES.index(said.severity):
            return "severity"
        if said.spoofable and not self.spoofable:
            return "proven"
        if tick - said.tick < settings.spacing:
            return None
        if len(self.kinds) > said.kinds:
            return "kind"
        if round(self.confidence - said.confidence, 6) >= settings.confidence_step:
            return "confidence"
        if self.strength > said.strength and self.strength >= settings.growth * said.strength:
            return "growth"
        return "refresh" if tick - said.tick >= settings.refresh else None

    def alert(self, tick: int, status: Literal["open", "closed"]) -> Alert:
        """Return the next revision and remember what it said."""
        self.revision += 1
        self.said = _Said(
            tick=tick, severity=self.severity, confidence=self.confidence, strength=self.strength,
            spoofable=self.spoofable, kinds=len(self.kinds),
        )  # fmt: skip
        attackers, victims, evidence = self.attackers.top(), self.victims.top(), tuple(self.evidence.values())
        return Alert(
            id=self.id, revision=self.revision, status=status, cluster=self.cluster, node=self.node,
            detector=self.detector, rule=self.rule, kind=self.kind, title=self.title, severity=self.severity,
            confidence=self.confidence, subject=self.subject, started_at=iso_time(self.started),
            detected_at=iso_time(self.first_tick), ended_at=iso_time(self.last_tick), tick=tick,
            attackers=attackers, victims=victims, techniques=tuple(self.techniques), evidence=evidence,
            explanation=explanation(self.summary, attackers, victims, evidence, self.quality, self.spoofable),
            spoofable=self.spoofable, data_quality=self.quality, occurrences=self.occurrences,
            suggested_response=self.response,
        )  # fmt: skip


def strength_of(finding: Finding) -> float:
    """Return the main value as a multiple of its limit; the value itself where there is no limit.

    The main value is the first that has a limit, else the first.
    """
    main = next((e for e in finding.evidence if e.limit is not None), None) or next(iter(finding.evidence), None)
    if main is None:
        return 0.0
    ratio = main.value / main.limit if main.limit is not None and main.limit > 0 else main.value
    return min(max(ratio, 0.0), _MAX_STRENGTH)
