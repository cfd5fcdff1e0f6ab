"""The rule file: ``detection_rules`` in YAML, read into checked rules.

A file is input from outside: PyYAML's safe loader composes it into nodes, never into objects, and it is
read field by field, so that every complaint has its line and nothing in it can name a type or run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml

from detectors.condition import Condition, ConditionError, parse_condition
from detectors.library import ANOMALY_WORD, MAX_COUNTED, WORDS
from detectors.rule_fields import (
    DEFAULT_WINDOW,
    FieldError,
    printable,
    read_description,
    read_name,
    read_number,
    read_severity,
    read_techniques,
    read_window,
    scalar,
)
from schemas.finding import Severity

MAX_BYTES = 256 * 1024  # a rule is about 100 bytes; a larger file is not one that a person wrote
MAX_RULES = 200  # each adds a pass over touched keys to every tick
FIELDS = ("name", "condition", "threshold", "time_window", "severity", "description", "techniques")

_Value = TypeVar("_Value")


class RuleError(ValueError):
    """A rule file that is not one: every mistake in it, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Rule:
    """One checked rule. ``window`` is in s; a rule about the learned anomaly does not use it."""

    name: str
    condition: Condition
    window: int = DEFAULT_WINDOW
    severity: Severity = "medium"
    description: str = ""
    techniques: tuple[str, ...] = ()

    @property
    def anomaly(self) -> bool:
        """Tell whether the rule follows the traffic anomaly model."""
        return ANOMALY_WORD in self.condition.words


def load_rules(source: Path | str) -> list[Rule]:
    """Read a rule file.

    Args:
        source: a path, or the text itself.

    Returns:
        The rules in file order.

    Raises:
        RuleError: with all mistakes, each as "PLACE:LINE: what is wrong and what to do".
    """
    place = printable(str(source)) if isinstance(source, Path) else "rules"
    return _File(place).read(_text_of(source, place))


def _text_of(source: Path | str, place: str) -> str:
    if isinstance(source, str):
        raw = source.encode("utf-8", "surrogatepass")
    else:
        try:
            with source.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise RuleError([f"{place}: cannot read the rules: {error.strerror}"]) from None
    if len(raw) > MAX_BYTES:
        raise RuleError([f"{place}: more than {MAX_BYTES} bytes; split the rules into several files"])
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise RuleError([f"{place}:{line}: not UTF-8 text"]) from None


class _File:
    """Reads nodes into rules and gathers what is wrong with them."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._problems: list[tuple[int, str]] = []
        self._names: dict[str, int] = {}

    def read(self, text: str) -> list[Rule]:
        rules = [r for node in self._items(self._compose(text)) if (r := self._rule(node)) is not None]
        if self._problems:
            raise RuleError([f"{self._place}:{line}: {what}" for line, what in sorted(self._problems)])
        return rules

    def _compose(self, text: str) -> yaml.Node | None:
        try:
            root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._problems.append((mark.line + 1 if mark else 1, f"not YAML: {printable(str(error.problem))}"))
        except yaml.YAMLError:
            self._problems.append((1, "not YAML: it holds characters that YAML does not allow"))
        except RecursionError:
            self._problems.append((1, "not a rule file: it nests too deeply"))
        else:
            if root is None:
                self._problems.append((1, "the file is empty: it must begin with detection_rules:"))
            return root
        return None

    def _say(self, node: yaml.Node, what: str) -> None:
        self._problems.append((node.start_mark.line + 1, what))

    def _items(self, root: yaml.Node | None) -> list[yaml.Node]:
        if root is None:
            return []
        before = len(self._problems)
        listed = self._mapping(root, ("detection_rules",), "the file").get("detection_rules")
        if isinstance(listed, yaml.SequenceNode) and 1 <= len(listed.value) <= MAX_RULES:
            return list(listed.value)
        if listed is not None:
            self._say(listed, f"detection_rules must be a list of 1 to {MAX_RULES} rules (- name: ...)")
        elif len(self._problems) == before:
            self._say(root, "detection_rules: is missing")
        return []

    def _mapping(self, node: yaml.Node, known: tuple[str, ...], what: str) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self._say(node, f"{what} must be a mapping with {', '.join(known)}")
            return {}
        fields: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = scalar(key)
            if name not in known:
                self._say(key, f"{what}: unknown field '{printable(name)}'; known: {', '.join(known)}")
            elif name in fields:
                self._say(key, f"{what}: {name} is given twice")
            else:
                fields[name] = value
        return fields

    def _field(self, fields: dict[str, yaml.Node], name: str, read: Callable[[yaml.Node], _Value],
               absent: _Value, what: str) -> _Value:  # fmt: skip
        if name not in fields:
            return absent
        try:
            return read(fields[name])
        except FieldError as error:
            self._say(fields[name], f"{what}: {error}")
            return absent

    def _rule(self, node: yaml.Node) -> Rule | None:
        before = len(self._problems)
        fields = self._mapping(node, FIELDS, "a rule")
        if not isinstance(node, yaml.MappingNode):
            return None
        name = self._name(node, fields)
        what = f"rule {name}" if name else "a rule"
        window = self._field(fields, "time_window", read_window, DEFAULT_WINDOW, what)
        severity: Severity = self._field(fields, "severity", read_severity, "medium", what)
        description = self._field(fields, "description", read_description, "", what)
        techniques: tuple[str, ...] = self._field(fields, "techniques", read_techniques, (), what)
        condition = self._condition(node, fields, what)
        if condition is None or len(self._problems) > before:
            return None
        return Rule(name, condition, window, severity, description, techniques)

    def _name(self, node: yaml.Node, fields: dict[str, yaml.Node]) -> str:
        if "name" not in fields:
            self._say(node, "a rule without name: add name: ...")
            return ""
        name = self._field(fields, "name", read_name, "", "a rule")
        if name in self._names:
            self._say(fields["name"], f"rule {name}: the rule on line {self._names[name]} has the same name")
        elif name:
            self._names[name] = fields["name"].start_mark.line + 1
        return name

    def _condition(self, node: yaml.Node, fields: dict[str, yaml.Node], what: str) -> Condition | None:
        before = len(self._problems)
        threshold = self._field(fields, "threshold", read_number, None, what)
        if len(self._problems) > before:
            threshold = 0.0  # the mistake is told; the condition may still use the word
        if "condition" not in fields:
            self._say(node, f"{what}: condition is missing: add condition: WORD > NUMBER")
            return None
        try:
            condition = parse_condition(scalar(fields["condition"]), WORDS, (ANOMALY_WORD,), threshold)
            _check(condition)
        except ConditionError as error:
            self._say(fields["condition"], f"{what}: {error}")
            return None
        if threshold is not None and not condition.uses_threshold:
            self._say(fields["threshold"], f"{what}: threshold is given, but the condition does not use it")
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
