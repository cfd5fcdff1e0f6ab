"""Rules as text."""

from __future__ import annotations

from typing import Any

from detectors.base import Detector
from detectors.features import Feature
from detectors.rule_detector import rule_detectors
from detectors.rule_file import Rule
from detectors.spaces import SPACES
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
    if rule.anomaly:
        out.print(cell("  follows the built-in detector traffic_anomaly"))
    for feature in features:
        lines = wrapped(f"{feature_text(feature)}; per {SPACES[feature.space].meaning}", "  ")
        for line in lines:
            out.print(cell(line))
