"""Rules and the feature plan as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectors.base import Detector
from detectors.features import Distinct, Feature
from detectors.plan import FeaturePlan
from detectors.rule_detector import rule_detectors
from detectors.rule_file import Rule
from detectors.spaces import SPACES
from sluicegate.terminal import cell, console, wrapped


def feature_text(feature: Feature) -> str:
    """Return a feature as one phrase: aggregate, window and bucket."""
    how = feature.aggregate
    if isinstance(how, Distinct):
        what = f"distinct {how.element} over {how.measure}" + (f" less {how.cancel}" if how.cancel else "")
        what += f", at most {how.cap:,}"
    else:
        what = f"sum of {how.measure}"
    return f"{feature.name}: {what}, {feature.window} s in buckets of {feature.bucket} s"


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


def print_plan(detectors: Sequence[Detector]) -> None:
    """Print the merged features by key space, and what they cost."""
    out = console()
    plan = FeaturePlan(detectors)
    asked = sum(len(detector.features()) for detector in detectors)
    computed = 0
    for line in plan.lines():
        computed += len(line.features)
        full = line.bytes_per_key * line.capacity / 1e6
        out.print(cell(f"{line.space}: {SPACES[line.space].meaning} (stage {line.stage})", "bold"))
        out.print(cell(f"  {line.bytes_per_key:,} B a key, at most {line.capacity:,} keys ({full:,.0f} MB)"))
        for feature in line.features:
            for text in wrapped(feature_text(feature), "  "):
                out.print(cell(text))
    out.print(cell(f"{len(detectors)} detectors and rules ask for {asked} features; {computed} are computed"))
