"""Rules as detectors: the same contract, the same tables, the same findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from detectors.base import Detector, KeyView, Meta, TickView, confidence
from detectors.features import Feature
from detectors.frame import ICMP, ICMPV6, UDP
from detectors.index import I64
from detectors.library import ANOMALY_DETECTOR, WORDS, FeatureWord
from detectors.rule_file import Rule
from detectors.spaces import SPACES
from schemas.events import Capability
from schemas.finding import MAX_ENDPOINTS, DataQuality, Endpoint, Evidence, Finding

MAX_FINDINGS = 1000  # per rule and tick; a rule that everything matches must not stall the engine

_ACTOR = {"pair": "src", "sweep": "src", "source": "src", "dns_client": "client"}


def rule_detectors(rules: Sequence[Rule]) -> list[Detector]:
    """Return one detector per rule, in the same order; each has the id ``rule:NAME``."""
    return [_anomaly_detector(r) if r.anomaly else _feature_detector(r) for r in rules]


def _meta(rule: Rule, space: str, needs: Capability, techniques: tuple[str, ...]) -> Meta:
    unseen = ", ".join(sorted(str(bit.name).lower() for bit in Capability if bit in needs))
    return Meta(
        id=f"rule:{rule.name}",
        title=rule.description or f"Rule {rule.name}",
        stage=SPACES[space].stage,
        severity=rule.severity,
        techniques=rule.techniques or techniques,
        needs=needs,
        blind=f"rule {rule.name} needs a source that fills: {unseen}",
        response=None,  # a rule alone alerts; acting needs corroboration
    )


def _feature_detector(rule: Rule) -> Detector:
    words = [WORDS[name] for name in rule.condition.words]
    lead = next((w for w in words if w.kind != "rule"), words[0])
    needs = Capability(0)
    for word in words:
        needs |= word.needs

    class OneRule(FeatureRule):
        meta: ClassVar[Meta] = _meta(rule, lead.space, needs, lead.techniques)

    return OneRule(rule, words, lead)


def _anomaly_detector(rule: Rule) -> Detector:
    class OneRule(AnomalyRule):
        meta: ClassVar[Meta] = _meta(rule, "workload", Capability.PACKETS, ())

    return OneRule(rule)


class AnomalyRule(Detector):
    """Repeats what the traffic anomaly model says in this tick, under the rule's name and severity."""

    order: ClassVar[int] = 2

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self._rule = rule

    def features(self) -> Sequence[Feature]:
        """The model has its own rows."""
        return ()

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return one finding per finding of the model for which the whole condition holds."""
        said = [f for f in view.model_findings if f.detector == ANOMALY_DETECTOR and f.rule is None]
        holds = self._rule.condition.evaluate({w: np.ones(len(said), np.bool_) for w in self._rule.condition.words})
        more: dict[str, Any] = {
            "rule": self._rule.name,
            "severity": self._rule.severity,
            "title": self.meta.title,
            "response": None,
        }
        if self._rule.techniques:
            more["techniques"] = self._rule.techniques
        return [f.model_copy(update=more) for f, fires in zip(said, holds, strict=True) if fires]


class FeatureRule(Detector):
    """A condition over features of one key space; it fires for touched keys only."""

    def __init__(self, rule: Rule, words: Sequence[FeatureWord], lead: FeatureWord) -> None:
        super().__init__()
        self._rule = rule
        self._lead = lead
        self._features = {w.word: w.feature(rule.window, rule.condition.highest) for w in words}

    def features(self) -> Sequence[Feature]:
        """One per word."""
        return tuple(self._features.values())

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return one finding per subject, ordered by (tick, subject)."""
        keys = view.space(self._lead.space)
        if keys is None:
            return []
        values = {word: keys.value(feature) for word, feature in self._features.items()}
        fires = self._rule.condition.evaluate(values) & keys.can_see(self.meta.needs)
        rows = np.flatnonzero(fires)
        if not len(rows):
            return []
        subjects, left_out = _by_subject(keys, rows, values[self._lead.word], _ACTOR.get(self._lead.space))
        findings = [self._finding(view, keys, members, values, left_out) for members in subjects]
        return sorted(findings, key=lambda f: (f.tick, f.subject))

    def _finding(self, view: TickView, keys: KeyView, rows: list[int], values: dict[str, I64],
                 left_out: int) -> Finding:  # fmt: skip
        top, tick = rows[0], int(keys.ticks[rows[0]])
        node = keys.node(top)
        attackers, victims = self._ends(view, keys, rows, tick)
        ends = victims if self._lead.space == "victim" else attackers
        evidence = self._evidence(values, top)
        quality = view.quality.get(node, DataQuality())
        if left_out:
            quality = quality.model_copy(update={"notes": (*quality.notes, f"{left_out} more subjects matched")})
        limit = self._rule.condition.limits.get(self._lead.word, 0.0)
        return Finding(
            detector=self._lead.detector,
            rule=self._rule.name,
            kind=self._kind(keys, top),
            title=self.meta.title,
            severity=self._rule.severity,
            confidence=confidence(float(values[self._lead.word][top]), limit),
            tick=tick,
            started=max(0, tick - self._rule.window),
            node=node,
            subject=ends[0].ip if self._lead.space == "victim" else f"{ends[0].ip}@{node}",
            attackers=attackers,
            victims=victims,
            techniques=self.meta.techniques,
            evidence=evidence,
            summary=f"Rule {self._rule.name}: {self._told(attackers, victims)}: {_sentence(evidence)}",
            spoofable=True,  # counts of attempts do not prove that an address was really there
            data_quality=quality,
            response=self.meta.response,
            quiet=max(60, self._rule.window),
        )

    def _kind(self, keys: KeyView, row: int) -> str:
        if self._lead.space == "sweep":
            proto = int(keys.column("proto")[row])
            return {ICMP: "icmp_sweep", ICMPV6: "icmp_sweep", UDP: "udp_scan"}.get(proto, self._lead.kind)
        return self._lead.kind

    def _ends(self, view: TickView, keys: KeyView, rows: list[int],
              tick: int) -> tuple[tuple[Endpoint, ...], tuple[Endpoint, ...]]:  # fmt: skip
        space = self._lead.space
        if space == "victim":
            # A source whose handshake completed was really there; the others may be false addresses.
            sources = view.top_sources(bytes(keys.column("dst")[rows[0]]))[:MAX_ENDPOINTS]
            real = tuple(view.endpoint(ip, tick) for ip, _, established in sources if established)
            return real, (view.endpoint(keys.address("dst", rows[0]), tick),)
        attackers = (view.endpoint(keys.address(_ACTOR[space], rows[0]), tick),)
        if space not in ("pair", "sweep"):
            return attackers, ()
        victims = dict.fromkeys(keys.address("dst", row) for row in rows)
        return attackers, tuple(view.endpoint(ip, tick) for ip in list(victims)[:MAX_ENDPOINTS])

    def _evidence(self, values: dict[str, I64], row: int) -> tuple[Evidence, ...]:
        return tuple(
            Evidence(
                name=word,
                value=float(values[word][row]),
                limit=self._rule.condition.limits.get(word),
                unit=feature.unit,
                window=feature.window,
            )
            for word, feature in self._features.items()
        )

    def _told(self, attackers: tuple[Endpoint, ...], victims: tuple[Endpoint, ...]) -> str:
        if self._lead.space == "victim":
            return f"towards {victims[0].ip}"
        return attackers[0].ip + (f" towards {victims[0].ip}" if victims else "")


def _by_subject(keys: KeyView, rows: I64, lead: I64, actor: str | None) -> tuple[list[list[int]], int]:
    """Return the rows of each subject, the largest value first, and how many subjects were left out."""
    who = keys.column(actor or "dst")[rows]
    words = np.ascontiguousarray(who).view(">u8").reshape(len(rows), 2)
    order = rows[np.lexsort((words[:, 1], words[:, 0], keys.ticks[rows], -lead[rows]))]
    subjects: dict[tuple[int, int, bytes], list[int]] = {}
    column = keys.column(actor or "dst")
    for row in order.tolist():
        subject = (int(keys.ticks[row]), int(keys.node_numbers[row]), bytes(column[row]))
        members = subjects.setdefault(subject, [])
        if len(members) < MAX_ENDPOINTS:
            members.append(row)
    chosen = list(subjects.values())
    return chosen[:MAX_FINDINGS], max(0, len(chosen) - MAX_FINDINGS)


def _sentence(evidence: tuple[Evidence, ...]) -> str:
    parts = []
    for item in evidence:
        limit = "" if item.limit is None else f" (limit {item.limit:g})"
        parts.append(f"{item.name} {item.value:.0f}{limit}")
    return f"{', '.join(parts)} within {evidence[0].window} s"
