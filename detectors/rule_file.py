"""The rule file: detection rules, sequences of alerts, roles and exceptions in YAML, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from detectors.condition import Condition, ConditionError, parse_condition
from detectors.exception_nodes import read_exceptions, read_roles
from detectors.identity_keys import By
from detectors.library import ANOMALY_WORD, MAX_COUNTED, WORDS
from detectors.row_filter import RowFilter, parse_filter
from detectors.rule_fields import (
    DEFAULT_WINDOW,
    printable,
    read_by,
    read_description,
    read_name,
    read_number,
    read_severity,
    read_techniques,
    read_window,
    scalar,
)
from detectors.rule_nodes import MAX_BYTES, Nodes, RuleError, text_of
from detectors.sequence_nodes import read_sequences
from schemas.exceptions import AlertException, RoleRule
from schemas.finding import Severity
from schemas.sequence import SequenceRule

__all__ = ["FIELDS", "MAX_BYTES", "MAX_RULES", "SECTIONS", "Rule", "RuleError", "RuleFile", "load_rule_file",
           "load_rules"]  # fmt: skip

MAX_RULES = 200  # each adds a pass over touched keys to every tick
SECTIONS = ("detection_rules", "sequences", "roles", "exceptions")
_ENTRIES = {"detection_rules": "rules (- name: ...)", "sequences": "sequences (- name: ...)",
            "roles": "declarations (- role: ...)", "exceptions": "exceptions (- name: ...)"}  # fmt: skip
FIELDS = ("name", "condition", "where", "by", "threshold", "time_window", "severity", "description", "techniques")


@dataclass(frozen=True)
class Rule:
    """One checked rule. ``window`` is in s; a rule about the learned anomaly does not use it."""

    name: str
    condition: Condition
    window: int = DEFAULT_WINDOW
    severity: Severity = "medium"
    description: str = ""
    techniques: tuple[str, ...] = ()
    where: RowFilter | None = None
    by: By | None = None  # kind of identity that is counted; none: addresses

    @property
    def anomaly(self) -> bool:
        """Tell whether the rule follows the traffic anomaly model."""
        return ANOMALY_WORD in self.condition.words


@dataclass(frozen=True)
class RuleFile:
    """All that one or several rule files say, in their order."""

    rules: tuple[Rule, ...] = ()
    sequences: tuple[SequenceRule, ...] = ()
    roles: tuple[RoleRule, ...] = ()
    exceptions: tuple[AlertException, ...] = ()

    def joined(self, other: RuleFile) -> RuleFile:
        """Return what both say, the other's after one's own."""
        return RuleFile(
            self.rules + other.rules,
            self.sequences + other.sequences,
            self.roles + other.roles,
            self.exceptions + other.exceptions,
        )


def load_rules(source: Path | str) -> list[Rule]:
    """Read the detection rules of a rule file; see ``load_rule_file``."""
    return list(load_rule_file(source).rules)


def load_rule_file(source: Path | str) -> RuleFile:
    """Read a rule file.

    Args:
        source: a path, or the text itself.

    Returns:
        Its sections, each in file order.

    Raises:
        RuleError: with all mistakes, each as "PLACE:LINE: what is wrong and what to do".
    """
    place = printable(str(source)) if isinstance(source, Path) else "rules"
    return _File(place).read(text_of(source, place))


class _File(Nodes):
    """Reads nodes into rules and gathers what is wrong with them."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self._names: dict[str, int] = {}

    def read(self, text: str) -> RuleFile:
        sections = self._sections(self.compose(text))
        rules = tuple(r for node in sections["detection_rules"] if (r := self._rule(node)) is not None)
        read = RuleFile(
            rules,
            read_sequences(self, sections["sequences"], self._names),
            read_roles(self, sections["roles"]),
            read_exceptions(self, sections["exceptions"]),
        )
        self.finish()
        return read

    def _sections(self, root: yaml.Node | None) -> dict[str, list[yaml.Node]]:
        found: dict[str, list[yaml.Node]] = {name: [] for name in SECTIONS}
        if root is None:
            return found
        before = self.mistakes
        listed = self.mapping(root, SECTIONS, "the file")
        for name, node in listed.items():
            if isinstance(node, yaml.SequenceNode) and 1 <= len(node.value) <= MAX_RULES:
                found[name] = list(node.value)
            else:
                self.say(node, f"{name} must be a list of 1 to {MAX_RULES} {_ENTRIES[name]}")
        if not listed and self.mistakes == before:
            self.say(root, f"{', '.join(SECTIONS[:-1])} or {SECTIONS[-1]}: one of them must be there")
        return found

    def _rule(self, node: yaml.Node) -> Rule | None:
        before = self.mistakes
        fields = self.mapping(node, FIELDS, "a rule")
        if not isinstance(node, yaml.MappingNode):
            return None
        name = self._name(node, fields)
        what = f"rule {name}" if name else "a rule"
        window = self.field(fields, "time_window", read_window, DEFAULT_WINDOW, what)
        severity: Severity = self.field(fields, "severity", read_severity, "medium", what)
        description = self.field(fields, "description", read_description, "", what)
        techniques: tuple[str, ...] = self.field(fields, "techniques", read_techniques, (), what)
        condition = self._condition(node, fields, what)
        where = self._where(fields, condition, what) if condition is not None else None
        by = self._by(fields, condition, what) if condition is not None else None
        if condition is None or self.mistakes > before:
            return None
        return Rule(name, condition, window, severity, description, techniques, where, by)

    def _where(self, fields: dict[str, yaml.Node], condition: Condition, what: str) -> RowFilter | None:
        if "where" not in fields:
            return None
        word = WORDS.get(condition.words[0])
        if word is None or word.rows is None:
            known = ", ".join(sorted(name for name, w in WORDS.items() if w.rows is not None))
            self.say(fields["where"], f"{what}: rows of {condition.words[0]} cannot be left out; where fits {known}")
            return None
        try:
            return parse_filter(" ".join(scalar(fields["where"]).split()), word.rows)
        except ConditionError as error:
            self.say(fields["where"], f"{what}, where: {error}")
            return None

    def _by(self, fields: dict[str, yaml.Node], condition: Condition, what: str) -> By | None:
        by: By | None = self.field(fields, "by", read_by, None, what)
        word = WORDS.get(condition.words[0])
        if by is not None and (word is None or not word.identifiable):
            known = ", ".join(sorted(name for name, w in WORDS.items() if w.identifiable))
            self.say(fields["by"], f"{what}: {condition.words[0]} is not counted by {by}; by fits {known}")
        return by

    def _name(self, node: yaml.Node, fields: dict[str, yaml.Node]) -> str:
        if "name" not in fields:
            self.say(node, "a rule without name: add name: ...")
            return ""
        name = self.field(fields, "name", read_name, "", "a rule")
        if name in self._names:
            self.say(fields["name"], f"rule {name}: the rule on line {self._names[name]} has the same name")
        elif name:
            self._names[name] = fields["name"].start_mark.line + 1
        return name

    def _condition(self, node: yaml.Node, fields: dict[str, yaml.Node], what: str) -> Condition | None:
        before = self.mistakes
        threshold = self.field(fields, "threshold", read_number, None, what)
        if self.mistakes > before:
            threshold = 0.0  # the mistake is told; the condition may still use the word
        if "condition" not in fields:
            self.say(node, f"{what}: condition is missing: add condition: WORD > NUMBER")
            return None
        try:
            condition = parse_condition(scalar(fields["condition"]), WORDS, (ANOMALY_WORD,), threshold)
            _check(condition)
        except ConditionError as error:
            self.say(fields["condition"], f"{what}: {error}")
            return None
        if threshold is not None and not condition.uses_threshold:
            self.say(fields["threshold"], f"{what}: threshold is given, but the condition does not use it")
        return condition


def _check(condition: Condition) -> None:
    """Refuse what reads well but cannot be computed.

    Raises:
        ConditionError: words of different keys, or a distinct count compared beyond its cap.
    """
    spaces = {w: WORDS[w].space if w in WORDS else "workload model" for w in condition.words}
    first = condition.words[0]
    for word, space in spaces.items():
        if space != spaces[first]:
            problem = (
                f"{first} is counted per {spaces[first]} and {word} per {space}: "
                "a condition can only join words that are counted for the same key; write two rules"
            )
            raise ConditionError(problem)
    if condition.highest > MAX_COUNTED and any(w in WORDS and WORDS[w].distinct for w in condition.words):
        problem = f"different things are counted up to {4 * MAX_COUNTED}: compare with at most {MAX_COUNTED}"
        raise ConditionError(problem)
