"""Metrics read from what a process counts: defined once, collected when asked for, listed in `docs/metrics.md`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

# By metric, the value of each combination of its labels.
Values = Mapping[str, Mapping[tuple[str, ...], float]]


@dataclass(frozen=True)
class Metric:
    """One metric as documented."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()


class CountsCollector(Collector):
    """Collects `metrics` from what `values` returns."""

    metrics: ClassVar[tuple[Metric, ...]]

    @abstractmethod
    def values(self) -> Values:
        """Return the values of all metrics as they are now."""

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Return all metrics."""
        values = self.values()
        for metric in self.metrics:
            family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
                f"sluicegate_{metric.name}", metric.help, labels=metric.labels
            )
            for labels, value in values[metric.name].items():
                family.add_metric(list(labels), value)
            yield family


def registry_of(collector: Collector) -> CollectorRegistry:
    """Return a registry of its own with a collector's metrics."""
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def metrics_section(title: str, served: str, metrics: Sequence[Metric]) -> str:
    """Return a part of `docs/metrics.md`; `served` says by what, and from which file it is made."""
    lines = ["", f"## {title}", "", served, "", "| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for metric in metrics:
        suffix = "_total" if metric.kind == "counter" else ""
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
        lines.append(f"| `sluicegate_{metric.name}{suffix}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"
