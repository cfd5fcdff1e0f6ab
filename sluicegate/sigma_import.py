"""Sigma rules and correlations as rules of ours; what cannot be said is refused by name, the rest is kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.policy.profiles import TrustedPolicy
from sigma.rule import SigmaRule

from alerts.wording import printable
from detectors.condition import ConditionError
from detectors.row_filter import parse_filter
from detectors.rule_file import RuleError, load_rule_file
from sluicegate.sigma_backend import RowFilterBackend
from sluicegate.sigma_correlation import Detection, Entry, Refused, correlated
from sluicegate.sigma_fields import CONSTANT, KNOWN_SOURCES, SigmaSource, source_of

MAX_DOCUMENTS = 5000  # of one file; the whole public collection has about 4,000 rules
_LEVELS = {"informational": "info", "low": "low", "medium": "medium", "high": "high", "critical": "critical"}


@dataclass
class Imported:
    """What came of an import."""

    rules: list[Entry] = field(default_factory=list)
    sequences: list[Entry] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    def text(self) -> str:
        """Return the rule file, empty where nothing could be imported."""
        sections = {"detection_rules": self.rules, "sequences": self.sequences}
        filled = {name: entries for name, entries in sections.items() if entries}
        return yaml.safe_dump(filled, sort_keys=False, width=110) if filled else ""


def import_sigma(texts: Iterable[tuple[str, str]]) -> Imported:
    """Turn Sigma files into rules.

    Args:
        texts: name and text of each file.
    """
    return _Import().run(texts)


class _Import:
    def __init__(self) -> None:
        self._out = Imported()
        self._names: set[str] = set()
        self._detections: dict[str, Detection] = {}  # by the rule's name and id, as correlations refer to them
        self._entries: dict[str, Entry] = {}  # of correlations that became rules
        self._hidden: set[str] = set()  # rules that do not alert by themselves

    def run(self, texts: Iterable[tuple[str, str]]) -> Imported:
        rules: list[SigmaRule] = []
        correlations: list[SigmaCorrelationRule] = []
        for place, text in texts:
            for rule in self._parsed(place, text):
                (correlations if isinstance(rule, SigmaCorrelationRule) else rules).append(rule)  # type: ignore[arg-type]
        own: list[Detection] = []
        for rule in rules:
            detection = self._detection(rule)
            if detection is not None:
                own.append(detection)
                self._detections |= dict.fromkeys(_references(rule), detection)
        self._correlate(correlations)
        shown = [d.entry for d in own if d.entry["name"] not in self._hidden]
        self._out.rules = [*shown, *self._out.rules]
        return self._out

    def _refuse(self, name: str, reason: str) -> None:
        self._out.refused.append((printable(name, 120), printable(" ".join(reason.split()), 500)))

    def _parsed(self, place: str, text: str) -> list[SigmaRule | SigmaCorrelationRule]:
        try:
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
                self._refuse(place, "YAML aliases are not read: write out what they stand for")
                return []
            documents = [d for d in yaml.safe_load_all(text) if d is not None]
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            self._refuse(place, f"not YAML: {error}")
            return []
        if len(documents) > MAX_DOCUMENTS:
            self._refuse(place, f"{len(documents)} documents, more than {MAX_DOCUMENTS}: split the file")
            return []
        found: list[SigmaRule | SigmaCorrelationRule] = []
        for number, document in enumerate(documents, 1):
            title = document.get("title") if isinstance(document, dict) else None
            found += self._document(str(title or f"{place}, document {number}"), document)
        return found

    def _document(self, name: str, document: Any) -> list[SigmaRule | SigmaCorrelationRule]:
        if not isinstance(document, dict) or not {"detection", "correlation"} & set(document):
            self._refuse(name, "neither a Sigma rule nor a correlation: it has no detection and no correlation")
            return []
        try:
            # Patterns are only compiled here; the reader of filters refuses those that RE2 does not take.
            read = SigmaCollection.from_dicts(
                [document], collect_errors=True, resolve_references=False, policy=TrustedPolicy
            )
        except (SigmaError, TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
            self._refuse(name, f"no valid Sigma rule: {error}")
            return []
        errors = [*read.errors, *(error for rule in read.rules for error in rule.errors)]
        if errors or not read.rules:
            self._refuse(name, f"no valid Sigma rule: {errors[0] if errors else 'it holds none'}")
            return []
        return list(read.rules)

    def _detection(self, rule: SigmaRule) -> Detection | None:
        source = source_of(rule.logsource.product, rule.logsource.service, rule.logsource.category)
        if source is None:
            given = ", ".join(f"{k}: {v}" for k, v in rule.logsource.to_dict().items() if k != "definition")
            self._refuse(rule.title, f"log source ({given}) is neither flows nor DNS; known: {KNOWN_SOURCES}")
            return None
        try:
            queries = [str(query) for query in RowFilterBackend(source).convert_rule(rule)]
            where = queries[0] if len(queries) == 1 else " or ".join(f"({query})" for query in queries)
            word, where = _counted(source, where)
        except (SigmaError, ConditionError) as error:
            self._refuse(rule.title, str(error))
            return None
        except (NotImplementedError, TypeError, ValueError, AttributeError, KeyError) as error:
            # What pySigma stumbles over without an error of its own.
            self._refuse(rule.title, f"pySigma cannot convert it: {error}")
            return None
        entry = self._entry(rule, f"{word} > 0", "1m") | {"where": where}
        return Detection(source, where, word, entry) if self._holds(rule.title, "detection_rules", entry) else None

    def _entry(self, rule: SigmaRule | SigmaCorrelationRule, condition: str, window: str) -> Entry:
        entry = {"name": self._name(rule), "description": _description(rule.title), "condition": condition,
                 "time_window": window, "severity": _severity(rule)}  # fmt: skip
        techniques = _techniques(rule)
        return entry | ({"techniques": techniques} if techniques else {})

    def _name(self, rule: SigmaRule | SigmaCorrelationRule) -> str:
        base = re.sub(r"[^a-z0-9]+", "_", (rule.name or rule.title).lower()).strip("_")[:56] or "sigma"
        name, number = base, 1
        while name in self._names:
            number += 1
            name = f"{base}_{number}"
        self._names.add(name)
        return name

    def _holds(self, title: str, section: str, entry: Entry) -> bool:
        """Tell whether an entry is a right one; the reader of rule files has the last word."""
        try:
            load_rule_file(yaml.safe_dump({section: [entry]}))
        except RuleError as error:
            self._refuse(title, "; ".join(problem.partition(": ")[2] for problem in error.problems))
            return False
        return True

    def _correlate(self, correlations: Sequence[SigmaCorrelationRule]) -> None:
        waiting = list(correlations)
        for rule in waiting:
            # What a correlation refers to alerts by itself only where the correlation says so.
            if not rule.generate:
                named = [self._detections.get(reference.reference) for reference in rule.rules or ()]
                self._hidden |= {d.entry["name"] for d in named if d is not None}
        # A correlation of correlations is read once those are.
        for rule in sorted(waiting, key=lambda r: r.type.name.startswith("TEMPORAL")):
            try:
                section, entry, steps = correlated(rule, self._detections, self._entries, self._entry)
            except Refused as error:
                self._refuse(rule.title, str(error))
                continue
            if not self._holds(rule.title, section, entry):
                continue
            (self._out.rules if section == "detection_rules" else self._out.sequences).append(entry)
            self._entries |= dict.fromkeys(_references(rule), entry) if section == "detection_rules" else {}
            for step in steps:
                if step["name"] in self._hidden:
                    # Its alerts are needed, but alone they mean nothing: at this severity they open no incident.
                    self._hidden.discard(step["name"])
                    step["severity"] = "info"


def _counted(source: SigmaSource, where: str) -> tuple[str, str]:
    """Return the word that counts a rule's events once each, and the filter under which it does."""
    columns = set(parse_filter(where, source.kind).columns)
    if columns <= CONSTANT[source.kind]:
        return ("connection_attempts" if source.kind == "flow" else "dns_queries"), where
    if source.kind == "flow":
        # The totals and the application are known when the flow has ended; marks are told once by themselves.
        once = columns <= CONSTANT["flow"] | {"marks"}
        return "flow_rows", where if once else f"closed and ({where})"
    answers = any(name.startswith("record_") or name == "ttl" for name in columns)
    return "dns_rows", where if answers else f"answer_number <= 1 and ({where})"


def _references(rule: SigmaRule | SigmaCorrelationRule) -> list[str]:
    return [str(reference) for reference in (rule.name, rule.id) if reference is not None]


def _description(title: str) -> str:
    return printable(" ".join(title.split()), 500) or "Sigma rule"


def _severity(rule: SigmaRule | SigmaCorrelationRule) -> str:
    return _LEVELS.get(rule.level.name.lower(), "medium") if rule.level is not None else "medium"


def _techniques(rule: SigmaRule | SigmaCorrelationRule) -> list[str]:
    names = [tag.name.upper() for tag in rule.tags if tag.namespace == "attack"]
    return [name for name in dict.fromkeys(names) if re.fullmatch(r"T\d{4}(\.\d{3})?", name)][:10]
