"""What the live exporter says of itself."""

from __future__ import annotations

from prometheus_client import generate_latest

from exporter.backlog import BacklogState
from exporter.counted import registry_of
from exporter.live import LiveSummary
from exporter.live_source import SourceState
from exporter.telemetry import METRICS, ExporterCollector

NOW = 1_000.0


def collector(cut: int) -> ExporterCollector:
    made = ExporterCollector(
        lambda: {"packets": SourceState(7, 2, ["veth1", "eth0"], ["odd"]), "host": SourceState(3)},
        lambda: BacklogState(10, 20, 5, "no broker"), lambda: NOW,
    )  # fmt: skip
    made.summary = LiveSummary(messages=4, rows=9, lost_rows=1, cut=cut)
    return made


def test_every_metric_is_served() -> None:
    text = generate_latest(registry_of(collector(990))).decode()
    assert 'sluicegate_exporter_lost_packets_total{source="packets"} 2.0' in text
    assert 'sluicegate_exporter_read_total{source="host"} 3.0' in text
    assert 'sluicegate_exporter_interfaces{source="packets"} 2.0' in text
    assert 'sluicegate_exporter_waiting_bytes{place="disk"} 20.0' in text
    assert "sluicegate_exporter_dropped_messages_total 5.0" in text
    assert "sluicegate_exporter_lost_rows_total 1.0" in text
    assert "sluicegate_exporter_broker_away 1.0" in text
    for metric in METRICS:
        assert f"# HELP sluicegate_{metric.name}" in text


def test_an_exporter_that_makes_no_seconds_is_unwell() -> None:
    assert collector(0).problems() == []
    assert collector(990).problems() == []
    assert collector(989).problems() == ["the last second that was exported ended 11 s ago"]
