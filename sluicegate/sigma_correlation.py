"""Sigma correlations: counts become detection rules, temporal ones become sequences of alerts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sigma.correlations import SigmaCorrelationCondition, SigmaCorrelationRule

from sluicegate.sigma_fields import SigmaSource

Entry = dict[str, Any]
MakeEntry = Callable[[SigmaCorrelationRule, str, str], Entry]

_OPERATORS = {"GT": ">", "GTE": ">=", "EQ": "=="}
# What different values of a column are counted by.
_DISTINCT = {"qname": "unique_dns_names", "dst": "unique_destinations", "dst_port": "unique_destination_ports"}


@dataclass(frozen=True)
class Detection:
    """What a Sigma rule looks for: rows of one kind, and how an event of it is counted."""

    source: SigmaSource
    where: str
    word: str
    entry: Entry


class Refused(ValueError):
    """A correlation that cannot be said here; the text says why."""


def correlated(
    rule: SigmaCorrelationRule,
    detections: Mapping[str, Detection],
    counted: Mapping[str, Entry],
    entry: MakeEntry,
) -> tuple[str, Entry, list[Entry]]:
    """Return the section, the entry, and the entries of rules whose alerts it needs.

    Args:
        rule: the correlation.
        detections: Sigma rules that were imported, by name and id.
        counted: counts that were imported as rules, likewise.
        entry: makes the fields that all entries have, from condition and time window.

    Raises:
        Refused: it cannot be said.
    """
    kind = rule.type.name.lower()
    references = [reference.reference for reference in rule.rules or ()]
    if not isinstance(rule.condition, SigmaCorrelationCondition) or not references:
        problem = "an extended condition over its rules is not known here"
        raise Refused(problem)
    for name in references:
        if name not in detections and name not in counted:
            problem = f"rule {name} is not in these files, or was refused"
            raise Refused(problem)
    if kind in ("event_count", "value_count"):
        return "detection_rules", _count(rule, kind, [_detection(name, detections) for name in references], entry), []
    if kind in ("temporal", "temporal_ordered"):
        return _sequence(rule, kind, references, detections, counted, entry)
    problem = f"type {kind} is not known here; known: event_count, value_count, temporal, temporal_ordered"
    raise Refused(problem)


def _detection(name: str, detections: Mapping[str, Detection]) -> Detection:
    if name not in detections:
        problem = f"rule {name} is a correlation: only plain rules can be counted"
        raise Refused(problem)
    return detections[name]


def _count(rule: SigmaCorrelationRule, kind: str, members: list[Detection], entry: MakeEntry) -> Entry:
    first, condition = members[0], rule.condition
    assert isinstance(condition, SigmaCorrelationCondition)  # noqa: S101  # told apart by the caller
    if len({(m.source.kind, m.word) for m in members}) > 1:
        problem = "its rules are about different kinds of rows, which are counted apart"
        raise Refused(problem)
    grouped = [_column(rule, name, member, reference) for name in rule.group_by or ()
               for member, reference in zip(members, rule.rules or (), strict=True)]  # fmt: skip
    if set(grouped) != {first.source.actor}:
        given = ", ".join(rule.group_by or ()) or "nothing"
        problem = f"grouped by {given}: rows with a filter are counted per source address only ({first.source.actor})"
        raise Refused(problem)
    operator = _OPERATORS.get(condition.op.name)
    if operator is None:
        problem = (
            f"condition {condition.op.name.lower()}: a rule is looked at when traffic comes, not when it stays away"
        )
        raise Refused(problem)
    word = first.word
    if kind == "value_count":
        fields = condition.fieldref if isinstance(condition.fieldref, list) else [condition.fieldref]
        columns = {m.source.fields.get(str(f)) for m in members for f in fields}
        column = columns.pop() if len(columns) == 1 else None
        if column not in _DISTINCT or word not in ("connection_attempts", "dns_queries"):
            problem = f"different values of {', '.join(map(str, fields))}: only those of addressed hosts, their ports "
            problem += "and names asked for can be counted, of rows that are judged when they begin"
            raise Refused(problem)
        word = _DISTINCT[column]
    where = first.where if len(members) == 1 else " or ".join(f"({m.where})" for m in members)
    return entry(rule, f"{word} {operator} {condition.count}", _timespan(rule)) | {"where": where}


def _sequence(
    rule: SigmaCorrelationRule, kind: str, references: list[str], detections: Mapping[str, Detection],
    counted: Mapping[str, Entry], entry: MakeEntry,
) -> tuple[str, Entry, list[Entry]]:  # fmt: skip
    for name in rule.group_by or ("nothing",):
        for reference in rule.rules or ():
            member = detections.get(reference.reference)
            # A count is imported only where it is kept per source, so its group-by says the same.
            column = _column(rule, name, member, reference) if member is not None else "src"
            if column not in ("src", "client"):
                problem = f"grouped by {name}: alerts of imported rules name the source address only"
                raise Refused(problem)
    condition = rule.condition
    assert isinstance(condition, SigmaCorrelationCondition)  # noqa: S101  # told apart by the caller
    if condition.op.name != "GTE" or condition.count not in (1, len(references)):
        problem = "a condition on how many of its rules are seen is not known here: all of them must be"
        raise Refused(problem)
    needed = [detections[name].entry if name in detections else counted[name] for name in references]
    fields = entry(rule, "", "")
    made: Entry = {
        "name": fields["name"], "description": fields["description"], "type": kind,
        "steps": {e["name"]: {"rule": e["name"]} for e in needed}, "group-by": ["attacker"],
        "timespan": _timespan(rule), "severity": fields["severity"],
    }  # fmt: skip
    if "techniques" in fields:
        made["techniques"] = fields["techniques"]
    return "sequences", made, needed


def _column(rule: SigmaCorrelationRule, name: str, member: Detection, reference: Any) -> str:
    """Return our column of a name in group-by: an alias, or a field of the rule's log source."""
    for alias in rule.aliases:
        if alias.alias == name:
            mapped = {key.reference: value for key, value in alias.mapping.items()}
            name = mapped.get(reference.reference, name)
    return member.source.fields.get(name, name)


def _timespan(rule: SigmaCorrelationRule) -> str:
    seconds = rule.timespan.seconds
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"
