"""Rules as detectors: the same contract, the same tables, the same findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from detectors.base import Detector, KeyView, Meta, TickView, confidence
from detectors.features import Feature, Sum
from detectors.identity_keys import By, identified, wording
from detectors.index import I64, positions
from detectors.library import ANOMALY_DETECTOR, WORDS, FeatureWord
from detectors.rule_file import Rule
from detectors.spaces import SPACES
from detectors.statement import PROTOCOLS, attacker, count, victims
from schemas.events import Capability
from schemas.finding import MAX_ENDPOINTS, Endpoint, Evidence, Finding

MAX_FINDINGS = 1000  # per rule, node and tick; a rule that everything matches must not stall the engine

_COLUMN = {"pair": "src", "sweep": "src", "source": "src", "dns_client": "client", "victim": "dst"}


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
    if rule.where is not None:
        needs |= rule.where.needs

    class OneRule(FeatureRule):
        meta: ClassVar[Meta] = _meta(rule, lead.space, needs, lead.techniques)

    return OneRule(rule, words, lead) if rule.by is None else _by_identity(rule, words, lead, OneRule.meta)


def _by_identity(rule: Rule, words: Sequence[FeatureWord], lead: FeatureWord, about: Meta) -> Detector:
    class OneRule(IdentityRule):
        meta: ClassVar[Meta] = about

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
        where = rule.where.text if rule.where else ""
        self._features = {w.word: w.feature(rule.window, rule.condition.highest, where, rule.by) for w in words}
        self._space = self._features[lead.word].space
        # What sort of probes they were is asked for under the names that port_scan uses, and so computed once.
        probes = ("probes", "udp_probes") if lead.space == "pair" else ()
        self._probes = [Feature(name, "pair", rule.window, Sum(name), "flows") for name in probes]

    def features(self) -> Sequence[Feature]:
        """One per word, and what its kind depends on."""
        return *self._features.values(), *self._probes

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return one finding per subject, ordered by (tick, subject)."""
        keys = view.space(self._space)
        if keys is None:
            return []
        values = {word: keys.value(feature) for word, feature in self._features.items()}
        fires = self._rule.condition.evaluate(values) & keys.can_see(self.meta.needs)
        rows = positions(fires)
        if not len(rows):
            return []
        by_node: dict[int, list[list[int]]] = {}
        for members in self._subjects(keys, rows, values[self._lead.word]):
            by_node.setdefault(int(keys.node_numbers[members[0]]), []).append(members)
        findings = []
        for subjects in by_node.values():
            left_out = len(subjects) - MAX_FINDINGS
            notes = (f"{left_out} more subjects matched",) if left_out > 0 else ()
            findings += [self._finding(view, keys, members, values, notes) for members in subjects[:MAX_FINDINGS]]
        return sorted(findings, key=lambda f: (f.tick, f.subject))

    def _finding(self, view: TickView, keys: KeyView, rows: list[int], values: dict[str, I64],
                 notes: tuple[str, ...]) -> Finding:  # fmt: skip
        top, tick = rows[0], int(keys.ticks[rows[0]])
        node = keys.node(top)
        attackers, hit, own = self._ends(view, keys, rows, tick)
        evidence = self._evidence(values, top)
        quality = view.quality[node]
        limit = self._rule.condition.limits.get(self._lead.word, 0.0)
        return Finding(
            detector=self._lead.detector,
            rule=self._rule.name,
            kind=self._kind(keys, top),
            title=self.meta.title,
            severity=self._rule.severity,
            confidence=confidence(float(values[self._lead.word][top]), limit),
            tick=tick,
            started=max(int(keys.since()[rows].min()), tick - self._rule.window),
            node=node,
            subject=self._subject(keys, top, node),
            attackers=attackers,
            victims=hit,
            techniques=self.meta.techniques,
            evidence=evidence,
            summary=f"rule {self._rule.name}: {self._who(keys, top, attackers, hit)}: {_sentence(evidence)}"
            f"{self._where()}",
            spoofable=not own,
            data_quality=quality.model_copy(update={"notes": (*quality.notes, *notes)}),
            response=self.meta.response,
            quiet=60,
        )

    def _subjects(self, keys: KeyView, rows: I64, lead: I64) -> list[list[int]]:
        """Return the rows of each subject, those with the largest value first."""
        return _by_subject(keys, rows, lead, self._lead.space)

    def _who(self, _keys: KeyView, _row: int, attackers: tuple[Endpoint, ...], hit: tuple[Endpoint, ...]) -> str:
        return _who(attackers, hit, self._lead.space)

    def _where(self) -> str:
        return f", counting rows where {self._rule.where.text[:200]}" if self._rule.where is not None else ""

    def _subject(self, keys: KeyView, row: int, node: str) -> str:
        space = self._lead.space
        ip = keys.address(_COLUMN[space], row)
        if space == "victim":
            return ip
        return f"{ip}@{node}" + (f"/{PROTOCOLS[int(keys.column('proto')[row])]}" if space == "sweep" else "")

    def _kind(self, keys: KeyView, row: int) -> str:
        if self._lead.space == "sweep":
            name = PROTOCOLS[int(keys.column("proto")[row])]
            return {"ICMP": "icmp_sweep", "UDP": "udp_scan"}.get(name, self._lead.kind)
        if self._lead.space == "pair":
            probes, udp = (int(keys.value(feature)[row]) for feature in self._probes)
            return "udp_scan" if 2 * udp > probes else self._lead.kind
        return self._lead.kind

    def _ends(self, view: TickView, keys: KeyView, rows: list[int],
              tick: int) -> tuple[tuple[Endpoint, ...], tuple[Endpoint, ...], bool]:  # fmt: skip
        """Return attackers, victims, and whether the attacker's address is proven."""
        space = self._lead.space
        if space == "victim":
            # A source whose handshake completed was really there; the others may be false addresses.
            sources = view.top_sources(bytes(keys.column("dst")[rows[0]]))[:MAX_ENDPOINTS]
            real = tuple(view.endpoint(ip, tick) for ip, _, established in sources if established)
            return real, victims(view, keys, rows), False
        if space in ("pair", "sweep"):
            source, own = attacker(view, keys, rows[0])
            return (source,), victims(view, keys, rows), own
        return (view.endpoint(keys.address(_COLUMN[space], rows[0]), tick),), (), False

    def _evidence(self, values: dict[str, I64], row: int) -> tuple[Evidence, ...]:
        limits = self._rule.condition.limits
        return tuple(
            Evidence(name=w, value=float(values[w][row]), limit=limits.get(w), unit=f.unit, window=f.window)
            for w, f in self._features.items()
        )


class IdentityRule(FeatureRule):
    """A condition over features by identity: each key is a subject, and all its addresses count together."""

    def _subjects(self, keys: KeyView, rows: I64, lead: I64) -> list[list[int]]:
        """Return the rows of each subject, those with the largest value first."""
        identity = keys.table.keys(keys.slots[rows])
        return [[row] for row in rows[np.lexsort((identity, keys.ticks[rows], -lead[rows]))].tolist()]

    def _key(self, keys: KeyView, row: int) -> tuple[By, str]:
        assert self._rule.by is not None  # noqa: S101, rules without it are of the other class
        return self._rule.by, bytes(keys.column("who")[row]).decode(errors="ignore")

    def _who(self, keys: KeyView, row: int, _attackers: tuple[Endpoint, ...], _hit: tuple[Endpoint, ...]) -> str:
        towards = "towards " if self._lead.space == "victim" else ""
        return towards + wording(*self._key(keys, row))

    def _subject(self, keys: KeyView, row: int, node: str) -> str:
        by, text = self._key(keys, row)
        return f"{by} {text}" + (f"@{node}" if node else "")

    def _ends(self, _view: TickView, keys: KeyView, rows: list[int],
              _tick: int) -> tuple[tuple[Endpoint, ...], tuple[Endpoint, ...], bool]:  # fmt: skip
        """Return the identity as attacker or as victim; nothing proves an address."""
        end = identified(*self._key(keys, rows[0]))
        return ((), (end,), False) if self._lead.space == "victim" else ((end,), (), False)


def _by_subject(keys: KeyView, rows: I64, lead: I64, space: str) -> list[list[int]]:
    """Return the rows of each subject, at most ``MAX_ENDPOINTS``; subjects and rows with the largest value first."""
    actor = keys.column(_COLUMN[space])
    words = np.ascontiguousarray(actor).view(">u8").reshape(len(actor), 2)
    identity = keys.table.keys(keys.slots[rows])
    order = rows[np.lexsort((identity, words[rows, 1], words[rows, 0], keys.ticks[rows], -lead[rows]))]
    sort = keys.column("proto") if space == "sweep" else np.zeros(len(actor), np.int64)
    subjects: dict[tuple[int, int, bytes, int], list[int]] = {}
    for row in order.tolist():
        subject = (int(keys.ticks[row]), int(keys.node_numbers[row]), bytes(actor[row]), int(sort[row]))
        members = subjects.setdefault(subject, [])
        if len(members) < MAX_ENDPOINTS:
            members.append(row)
    return list(subjects.values())


def _who(attackers: tuple[Endpoint, ...], hit: tuple[Endpoint, ...], space: str) -> str:
    if space == "victim":
        return f"towards {hit[0].ip}"
    more = f" and {len(hit) - 1} more" if len(hit) > 1 else ""
    return attackers[0].ip + (f" towards {hit[0].ip}{more}" if hit else "")


def _sentence(evidence: tuple[Evidence, ...]) -> str:
    parts = []
    for item in evidence:
        limit = "" if item.limit is None else f" (limit {item.limit:,g})"
        parts.append(f"{item.name} {count(item.value)}{limit}")
    return f"{', '.join(parts)} within {evidence[0].window} s"
