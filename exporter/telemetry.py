"""Every metric of the live exporter, defined once; `docs/metrics.md` lists them from here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from exporter.backlog import BacklogState
from exporter.live import LiveSummary
from exporter.live_source import SourceState

_LATE_S = 10  # seconds without a second of its own after which an exporter counts as stuck


@dataclass(frozen=True)
class ExporterMetric:
    """One metric as documented."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()


METRICS: tuple[ExporterMetric, ...] = (
    ExporterMetric("exporter_messages", "counter", "Messages made, heartbeats included."),
    ExporterMetric("exporter_rows", "counter", "Rows in them, all kinds."),
    ExporterMetric("exporter_lost_rows", "counter", "Rows and connections shed at a limit."),
    ExporterMetric(
        "exporter_read", "counter", "Packets (source packets), kernel messages (conntrack) or rows (host).", ("source",)
    ),
    ExporterMetric("exporter_lost_packets", "counter", "Of those, dropped before they were read.", ("source",)),
    ExporterMetric("exporter_interfaces", "gauge", "Interfaces watched.", ("source",)),
    ExporterMetric("exporter_problems", "gauge", "Different things that went wrong since the start.", ("source",)),
    ExporterMetric("exporter_cut", "gauge", "The last second made, s since epoch."),
    ExporterMetric("exporter_waiting_bytes", "gauge", "What waits for the broker, in memory or on disk.", ("place",)),
    ExporterMetric("exporter_dropped_messages", "counter", "Messages dropped for want of room while it was away."),
    ExporterMetric("exporter_broker_away", "gauge", "1 while the broker does not take messages."),
)  # fmt: skip


class ExporterCollector(Collector):
    """Reads the exporter's own counts whenever somebody asks.

    Args:
        states: how each source stands, by name.
        backlog: what waits for the broker.
        clock: returns s since epoch.
    """

    def __init__(
        self, states: Callable[[], dict[str, SourceState]], backlog: Callable[[], BacklogState],
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._states, self._backlog, self._clock = states, backlog, clock
        self.summary = LiveSummary()

    def problems(self) -> list[str]:
        """Return a line where no second was made for so long that something must be stuck; nothing before the first."""
        behind = self._clock() - self.summary.cut
        if not self.summary.cut or behind <= _LATE_S:
            return []
        return [f"the last second that was exported ended {behind:.0f} s ago"]

    def _values(self) -> dict[str, dict[tuple[str, ...], float]]:
        states, backlog, summary = self._states(), self._backlog(), self.summary
        return {
            "exporter_messages": {(): summary.messages},
            "exporter_rows": {(): summary.rows},
            "exporter_lost_rows": {(): summary.lost_rows},
            "exporter_read": {(name,): state.packets for name, state in states.items()},
            "exporter_lost_packets": {(name,): state.lost_packets for name, state in states.items()},
            "exporter_interfaces": {(name,): len(state.interfaces) for name, state in states.items()},
            "exporter_problems": {(name,): len(state.notes) for name, state in states.items()},
            "exporter_cut": {(): summary.cut},
            "exporter_waiting_bytes": {("memory",): backlog.waiting_bytes, ("disk",): backlog.spooled_bytes},
            "exporter_dropped_messages": {(): backlog.dropped},
            "exporter_broker_away": {(): bool(backlog.problem)},
        }

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Return all metrics."""
        values = self._values()
        for metric in METRICS:
            family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
                f"sluicegate_{metric.name}", metric.help, labels=metric.labels
            )
            for labels, value in values[metric.name].items():
                family.add_metric(list(labels), value)
            yield family


def make_registry(collector: ExporterCollector) -> CollectorRegistry:
    """Return a registry of its own with the exporter's metrics."""
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def metrics_table() -> str:
    """Return the exporter's part of `docs/metrics.md`."""
    lines = [
        "", "## Of the live exporter", "", "Served by `sluicegate export --to kafka` without files; made from "
        "`exporter/telemetry.py`.", "", "| metric | kind | labels | meaning |", "|---|---|---|---|",
    ]  # fmt: skip
    for metric in METRICS:
        suffix = "_total" if metric.kind == "counter" else ""
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
        lines.append(f"| `sluicegate_{metric.name}{suffix}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"
