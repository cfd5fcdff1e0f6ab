"""Sequences of alerts: from YAML nodes to checked rules. Field names and types are those of Sigma correlations."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import TypeVar

import yaml

from detectors.rule_fields import (
    FieldError,
    printable,
    read_description,
    read_name,
    read_severity,
    read_techniques,
    read_window,
    scalar,
)
from detectors.rule_nodes import Nodes
from schemas.finding import Severity
from schemas.incident import STAGES, Stage
from schemas.sequence import (
    COUNTED_FIELDS,
    GROUP_FIELDS,
    SEQUENCE_TYPES,
    CountedField,
    GroupField,
    SequenceRule,
    SequenceType,
    Step,
)

FIELDS = ("name", "type", "steps", "group-by", "aliases", "timespan", "condition", "severity", "description",
          "techniques")  # fmt: skip
STEP_FIELDS = ("detector", "rule", "kind", "technique", "stage", "severity")
MAX_STEPS = 8
MAX_GROUP_FIELDS = 3
MAX_COUNT = 1000  # alerts or values that a count may ask for; as many are remembered for it
MAX_TEXTS = 32

_Word = TypeVar("_Word", bound=str)
_Value = TypeVar("_Value")


def read_sequences(nodes: Nodes, listed: list[yaml.Node], names: dict[str, int]) -> tuple[SequenceRule, ...]:
    """Return the sequences that are right; the mistakes of the others are told to ``nodes``.

    Args:
        nodes: what gathers mistakes.
        listed: one node per sequence.
        names: names used so far with their lines; those of these sequences are added.
    """
    return tuple(s for node in listed if (s := _Sequence(nodes, node, names).read()) is not None)


def read_texts(node: yaml.Node) -> tuple[str, ...]:
    """Return the texts of a scalar or a list.

    Raises:
        FieldError: neither, none, too many, one that is empty, long or not printable.
    """
    texts = tuple(scalar(item) for item in (node.value if isinstance(node, yaml.SequenceNode) else [node]))
    if not 1 <= len(texts) <= MAX_TEXTS or not all(t and len(t) <= 253 and t.isprintable() for t in texts):
        problem = f"must be a word or a list of 1 to {MAX_TEXTS} words"
        raise FieldError(problem)
    return texts


def chosen(text: str, known: tuple[_Word, ...], what: str) -> _Word:
    """Return one of the known words.

    Raises:
        FieldError: it is none.
    """
    for word in known:
        if text == word:
            return word
    near = difflib.get_close_matches(text, known, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    problem = f"{what} '{printable(text)}' is unknown; {hint}known: {', '.join(known)}"
    raise FieldError(problem)


def known_detectors(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return ids of built-in detectors.

    Raises:
        FieldError: one of them is none.
    """
    # The detectors import most of this package, so they are not loaded for files that name none.
    from detectors.registry import detector_classes

    return tuple(chosen(text, tuple(detector_classes()), "detector") for text in texts)


class _Sequence:
    """Reads one sequence."""

    def __init__(self, nodes: Nodes, node: yaml.Node, names: dict[str, int]) -> None:
        self._nodes = nodes
        self._node = node
        self._names = names
        self._what = "a sequence"
        self._fields = nodes.mapping(node, FIELDS, self._what)

    def read(self) -> SequenceRule | None:
        if not isinstance(self._node, yaml.MappingNode):
            return None
        before = self._nodes.mistakes
        name = self._name()
        self._what = f"sequence {name}" if name else "a sequence"
        kind: SequenceType = self._field("type", _read_type, "temporal")
        steps = self._steps(kind)
        groups = self._groups(steps)
        timespan = self._field("timespan", lambda n: read_window(n, "timespan"), 0)
        counted, at_least = self._count(kind)
        severity: Severity = self._field("severity", read_severity, "high")
        description = self._field("description", read_description, "")
        techniques: tuple[str, ...] = self._field("techniques", read_techniques, ())
        for required in ("type", "steps", "group-by", "timespan"):
            if required not in self._fields:
                self._say(f"{required} is missing: add {required}: {_EXAMPLES[required]}")
        if self._nodes.mistakes > before:
            return None
        return SequenceRule(name, kind, steps, groups, timespan, at_least, counted, severity, description, techniques)

    def _say(self, what: str, field: str = "") -> None:
        self._nodes.say(self._fields.get(field, self._node), f"{self._what}: {what}")

    def _field(self, name: str, read: Callable[[yaml.Node], _Value], absent: _Value) -> _Value:
        return self._nodes.field(self._fields, name, read, absent, self._what)

    def _name(self) -> str:
        if "name" not in self._fields:
            self._say("name is missing: add name: ...")
            return ""
        name: str = self._field("name", read_name, "")
        if name in self._names:
            self._say(f"the rule on line {self._names[name]} has the same name {name}", "name")
        elif name:
            self._names[name] = self._fields["name"].start_mark.line + 1
        return name

    def _steps(self, kind: SequenceType) -> tuple[Step, ...]:
        node = self._fields.get("steps")
        if node is None:
            return ()
        least = 2 if kind.startswith("temporal") else 1
        if not isinstance(node, yaml.MappingNode) or not least <= len(node.value) <= MAX_STEPS:
            self._say(f"steps must be a mapping of {least} to {MAX_STEPS} names, each to what alerts it means", "steps")
            return ()
        steps: dict[str, Step] = {}
        for key, value in node.value:
            try:
                name = read_name(key)
            except FieldError as error:
                self._nodes.say(key, f"{self._what}: step {error}")
                continue
            if name in steps:
                self._nodes.say(key, f"{self._what}: step {name} is given twice")
            steps[name] = self._step(name, value)
        return tuple(steps.values())

    def _step(self, name: str, node: yaml.Node) -> Step:
        what = f"{self._what}, step {name}"
        fields = self._nodes.mapping(node, STEP_FIELDS, what)
        if isinstance(node, yaml.MappingNode) and not node.value:
            self._nodes.say(node, f"{what}: says nothing: give one of {', '.join(STEP_FIELDS)}")

        def read(field: str) -> tuple[str, ...]:
            return self._nodes.field(fields, field, read_texts, (), f"{what}, {field}")

        def stages(at: yaml.Node) -> tuple[Stage, ...]:
            return tuple(chosen(text, STAGES, "stage") for text in read_texts(at))

        return Step(
            name,
            self._nodes.field(fields, "detector", lambda n: known_detectors(read_texts(n)), (), what),
            read("rule"),
            read("kind"),
            self._nodes.field(fields, "technique", _read_step_techniques, (), what),
            self._nodes.field(fields, "stage", stages, (), what),
            self._nodes.field(fields, "severity", read_severity, "info", what),
        )

    def _groups(self, steps: tuple[Step, ...]) -> Mapping[str, tuple[GroupField, ...]]:
        aliases = self._aliases(steps)
        names: tuple[str, ...] = self._field("group-by", read_texts, ())
        if len(names) > MAX_GROUP_FIELDS or len(set(names)) < len(names):
            self._say(f"group-by must be 1 to {MAX_GROUP_FIELDS} different names", "group-by")
        for unused in sorted(set(aliases) - set(names)):
            self._say(f"alias {unused} is not used in group-by", "aliases")
        groups: dict[str, list[GroupField]] = {step.name: [] for step in steps}
        for name in names:
            if name not in aliases and name not in GROUP_FIELDS:
                known = ", ".join((*aliases, *GROUP_FIELDS))
                self._say(f"group-by '{printable(name)}' is neither an alias nor a field; known: {known}", "group-by")
                continue
            for step in steps:
                field = aliases[name].get(step.name) if name in aliases else next(f for f in GROUP_FIELDS if f == name)
                if field is None:
                    self._say(f"alias {name} does not say which field of step {step.name} it is", "aliases")
                else:
                    groups[step.name].append(field)
        return {name: tuple(fields) for name, fields in groups.items()}

    def _aliases(self, steps: tuple[Step, ...]) -> dict[str, dict[str, GroupField]]:
        node = self._fields.get("aliases")
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            self._say("aliases must be a mapping: NAME: {STEP: FIELD, ...}", "aliases")
            return {}
        out: dict[str, dict[str, GroupField]] = {}
        for key, value in node.value:
            name = scalar(key)
            if not name or name in GROUP_FIELDS or name in out:
                self._nodes.say(key, f"{self._what}: alias '{printable(name)}' is a field's name, empty or given twice")
                continue
            what = f"{self._what}, alias {printable(name)}"
            fields = self._nodes.mapping(value, tuple(step.name for step in steps), what)
            read = {s: self._nodes.field(fields, s, _read_group_field, None, what) for s in fields}
            out[name] = {step: field for step, field in read.items() if field is not None}
        return out

    def _count(self, kind: SequenceType) -> tuple[CountedField | None, int]:
        if kind.startswith("temporal"):
            if "condition" in self._fields:
                self._say("condition is for counts; temporal means that every step was seen", "condition")
            return None, 1
        node = self._fields.get("condition")
        if node is None:
            self._say("condition is missing: add condition: {gte: 5}" if kind == "event_count" else
                      "condition is missing: add condition: {field: victim, gte: 5}")  # fmt: skip
            return None, 1
        known = ("gt", "gte") if kind == "event_count" else ("field", "gt", "gte")
        what = f"{self._what}, condition"
        fields = self._nodes.mapping(node, known, what)
        limits = [name for name in ("gt", "gte") if name in fields]
        if len(limits) != 1:
            self._nodes.say(node, f"{what}: must give one of gt and gte")
            return None, 1
        if kind == "value_count" and "field" not in fields:
            self._nodes.say(node, f"{what}: field is missing; known: {', '.join(COUNTED_FIELDS)}")
        counted = self._nodes.field(fields, "field", _read_counted, None, what)
        limit = self._nodes.field(fields, limits[0], _read_limit, 1, f"{what}, {limits[0]}")
        return counted, limit + (limits[0] == "gt")


_EXAMPLES = {
    "type": "temporal_ordered", "steps": "{scan: {detector: port_scan}, ...}", "group-by": "[attacker]",
    "timespan": "10m",
}  # fmt: skip


def _read_type(node: yaml.Node) -> SequenceType:
    return chosen(scalar(node), SEQUENCE_TYPES, "type")


def _read_group_field(node: yaml.Node) -> GroupField | None:
    return chosen(scalar(node), GROUP_FIELDS, "field")


def _read_counted(node: yaml.Node) -> CountedField | None:
    return chosen(scalar(node), COUNTED_FIELDS, "field")


def _read_limit(node: yaml.Node) -> int:
    text = scalar(node)
    if not text.isdecimal() or len(text) > 4 or not 1 <= int(text) <= MAX_COUNT:
        problem = f"must be a whole number from 1 to {MAX_COUNT}, not '{printable(text)}'"
        raise FieldError(problem)
    return int(text)


def _read_step_techniques(node: yaml.Node) -> tuple[str, ...]:
    listed = node
    if isinstance(node, yaml.ScalarNode):
        listed = yaml.SequenceNode("tag:yaml.org,2002:seq", [node], node.start_mark, node.end_mark)
    return read_techniques(listed)
