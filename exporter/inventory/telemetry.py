"""Every metric of the inventory agent, defined once; `docs/metrics.md` lists them from here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from exporter.inventory.agent import InventoryAgent


@dataclass(frozen=True)
class InventoryMetric:
    """One metric as documented."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()


METRICS: tuple[InventoryMetric, ...] = (
    InventoryMetric("inventory_objects", "gauge", "Objects that hold now."),
    InventoryMetric("inventory_statements", "counter", "Statements that the broker has."),
    InventoryMetric("inventory_pending", "gauge", "Statements waiting for the broker."),
    InventoryMetric("inventory_watermark", "gauge", "Cut up to which everything is on the topic, s since epoch."),
    InventoryMetric("inventory_behind_seconds", "gauge", "Time since that cut; above 10 s names may be missing."),
    InventoryMetric("inventory_changes", "counter", "Objects listed and events watched."),
    InventoryMetric(
        "inventory_restarts", "counter",
        "Lists and watches begun again: expired (the server forgot the version), refused, unreachable.", ("reason",),
    ),
    InventoryMetric("inventory_unreadable", "counter", "Objects left out, because they could not be read.", ("kind",)),
    InventoryMetric("inventory_too_large", "counter", "Statements left out, because they are longer than 1 MiB."),
)  # fmt: skip


class InventoryCollector(Collector):
    """Reads the agent's own counts whenever somebody asks."""

    def __init__(self, agent: InventoryAgent, clock: Callable[[], float]) -> None:
        self._agent = agent
        self._clock = clock

    def _values(self) -> dict[str, dict[tuple[str, ...], float]]:
        agent, book = self._agent, self._agent.book
        behind = self._clock() - agent.watermark if agent.watermark >= 0 else float("nan")
        return {
            "inventory_objects": {(): len(book.statements)},
            "inventory_statements": {(): book.statements.said},
            "inventory_pending": {(): book.statements.waiting},
            "inventory_watermark": {(): agent.watermark},
            "inventory_behind_seconds": {(): behind},
            "inventory_changes": {(): book.changes},
            "inventory_restarts": {(reason,): count for reason, count in sorted(book.restarts.items())},
            "inventory_unreadable": {(kind,): count for kind, count in sorted(book.unreadable.items())},
            "inventory_too_large": {(): agent.too_large},
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


def make_registry(agent: InventoryAgent, clock: Callable[[], float]) -> CollectorRegistry:
    """Return a registry of its own with the agent's metrics."""
    registry = CollectorRegistry()
    registry.register(InventoryCollector(agent, clock))
    return registry


def metrics_table() -> str:
    """Return the agent's part of `docs/metrics.md`."""
    lines = [
        "", "## Of the inventory agent", "", "Served by `sluicegate inventory`; made from "
        "`exporter/inventory/telemetry.py`.", "", "| metric | kind | labels | meaning |", "|---|---|---|---|",
    ]  # fmt: skip
    for metric in METRICS:
        suffix = "_total" if metric.kind == "counter" else ""
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
        lines.append(f"| `sluicegate_{metric.name}{suffix}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"
