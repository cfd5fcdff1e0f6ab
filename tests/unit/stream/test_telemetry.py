from pathlib import Path

from stream.telemetry import SPECS, make_telemetry, metrics_markdown

ROOT = Path(__file__).parents[3]


def test_the_documentation_is_what_the_definitions_say() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert text.startswith(metrics_markdown()), "run docs/generate.py"


def test_every_metric_carries_our_name_and_a_sentence() -> None:
    registry = make_telemetry().registry
    names = {metric.name for metric in registry.collect()}
    assert names == {f"sluicegate_{spec.name}" for spec in SPECS}
    assert all(spec.help.endswith(".") for spec in SPECS)


def test_two_processes_worth_of_metrics_share_nothing() -> None:
    first, second = make_telemetry(), make_telemetry()
    first.messages.labels("detect").inc()
    assert second.registry.get_sample_value("sluicegate_messages_total", {"agent": "detect"}) is None


def test_identities_are_counted_when_somebody_asks() -> None:
    telemetry, counts = make_telemetry(), {"statements": 1}
    telemetry.follow(telemetry.identities, lambda: counts)
    counts["statements"] = 7
    assert telemetry.registry.get_sample_value("sluicegate_identities", {"what": "statements"}) == 7
