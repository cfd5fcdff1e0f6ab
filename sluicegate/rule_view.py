"""Rules as text."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from detectors.base import Detector
from detectors.features import Feature
from detectors.rule_detector import rule_detectors
from detectors.rule_file import Rule, RuleFile
from detectors.spaces import SPACES
from schemas.exceptions import Selector
from schemas.word import iso_time
from sluicegate.plan_view import feature_text
from sluicegate.terminal import cell, console, wrapped


def _features(rule: Rule) -> tuple[Detector, list[Feature]]:
    (detector,) = rule_detectors([rule])
    return detector, list(detector.features())


def rule_words(rule: Rule) -> dict[str, Any]:
    """Return a rule and how it is computed, as JSON values."""
    detector, features = _features(rule)
    return {
        "name": rule.name, "condition": rule.condition.text, "limits": dict(rule.condition.limits),
        "severity": rule.severity, "window_s": None if rule.anomaly else rule.window, "stage": detector.meta.stage,
        "techniques": list(detector.meta.techniques),
        "where": rule.where.text if rule.where is not None else None, "by": rule.by or "address",
        "features": [{"name": f.name, "space": f.space, "window_s": f.window, "bucket_s": f.bucket,
                      "aggregate": feature_text(f)} for f in features],
    }  # fmt: skip


def print_rule(rule: Rule) -> None:
    """Print a rule and how it is computed."""
    out = console()
    detector, features = _features(rule)
    out.print(cell(f"{rule.name}: {rule.condition.text}", "bold"))
    limits = ", ".join(f"{word} {limit:g}" for word, limit in sorted(rule.condition.limits.items()))
    where = "stage 1, on each node" if detector.meta.stage == 1 else "stage 2, summed over nodes"
    out.print(cell(f"  severity {rule.severity}; {where}{f'; limits: {limits}' if limits else ''}"))
    if rule.where is not None:
        for line in wrapped(f"counts {rule.where.kind} rows where {rule.where.text}", "  "):
            out.print(cell(line))
    if rule.anomaly:
        out.print(cell("  follows the built-in detector traffic_anomaly"))
    for feature in features:
        lines = wrapped(f"{feature_text(feature)}; per {SPACES[feature.space].meaning}", "  ")
        for line in lines:
            out.print(cell(line))


def rule_file_words(read: RuleFile) -> list[dict[str, Any]]:
    """Return every entry of a rule file as JSON values, each with its section."""
    entries = [("detection_rules", rule_words(rule)) for rule in read.rules]
    for section in ("sequences", "roles", "exceptions"):
        entries += [(section, _plain(asdict(entry))) for entry in getattr(read, section)]
    return [{"section": section, **words} for section, words in entries]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | None) else str(value)


def print_rules(read: RuleFile) -> None:
    """Print every entry of a rule file and how it is computed."""
    out = console()
    for rule in read.rules:
        print_rule(rule)
    for sequence in read.sequences:
        out.print(cell(f"{sequence.name}: {sequence.type} of {', '.join(s.name for s in sequence.steps)}", "bold"))
        by = "; ".join(f"{step}: {', '.join(fields)}" for step, fields in sequence.groups.items())
        text = f"severity {sequence.severity}; within {sequence.timespan} s; equal over steps: {by}"
        for line in wrapped(text, "  "):
            out.print(cell(line))
    for role in read.roles:
        out.print(cell(f"role {role.role}: {_selector_text(role.match)}", "bold"))
    for exception in read.exceptions:
        out.print(cell(f"exception {exception.name}: {_selector_text(exception.match)}", "bold"))
        whose = ", ".join((*exception.detectors, *(f"rule {name}" for name in exception.rules)))
        end = "" if exception.expires is None else f"; until {iso_time(exception.expires)[:10]}"
        for line in wrapped(f"as {exception.side}, no alert of {whose}{end}: {exception.reason}", "  "):
            out.print(cell(line))


def _selector_text(selector: Selector) -> str:
    parts = [f"{name} {' or '.join(map(str, values))}" for name, values in asdict(selector).items()
             if values and name != "labels"]  # fmt: skip
    return "; ".join([*parts, *(f"label {key}={value}" for key, value in selector.labels)])
