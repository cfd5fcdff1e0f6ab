from pathlib import Path

from stream.telemetry import SPECS, make_telemetry, metrics_markdown

ROOT = Path(__file__).parents[3]


def test_the_documentation_is_what_the_definitions_say() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == metrics_markdown(), (
        "write stream.telemetry.metrics_markdown() to docs/metrics.md"
    )


def test_every_metric_carries_our_name_and_a_sentence() -> None:
    registry = make_telemetry().registry
    names = {metric.name for metric in registry.collect()}
    assert names == {f"sluicegate_{spec.name}" for spec in SPECS}
    assert all(spec.help.endswith(".") for spec in SPECS)


def test_two_processes_worth_of_metrics_share_nothing() -> None:
    first, second = make_telemetry(), make_telemetry()
    first.messages.labels("detect").inc()
    assert second.registry.get_sample_value("sluicegate_messages_total", {"agent": "detect"}) is None
