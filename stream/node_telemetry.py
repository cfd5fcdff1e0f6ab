"""Every metric of a node's agent, defined once; `docs/metrics.md` lists them from here."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from stream.node_agent import NodeAgent
from stream.telemetry import MetricSpec, metric_rows

_Values = dict[tuple[str, ...], float]


_ENTRY = ("kind", "what", "response")
METRICS: tuple[MetricSpec, ...] = (
    MetricSpec("node_enforcing", "gauge", "1 while the kernel's tables are as commands want them."),
    MetricSpec("node_synced", "gauge", "1 once the commands on the broker were read to their end."),
    MetricSpec("node_entries", "gauge", "Pairs that are cut and ports that are limited now.", ("kind",)),
    MetricSpec("node_dropped_packets", "counter", "Packets dropped by all entries, also by those that are gone."),
    MetricSpec("node_dropped_bytes", "counter", "IP bytes of these packets."),
    MetricSpec("node_entry_packets", "gauge", "Packets dropped by an entry since it was set.", _ENTRY),
    MetricSpec(
        "node_entry_last_cut", "gauge", "When an entry last dropped something, s since epoch; 0: never.", _ENTRY
    ),
    MetricSpec("node_commands", "counter", "Commands for this node, by what became of them.", ("outcome", "reason")),
    MetricSpec("node_commands_ignored", "counter", "Commands for other nodes."),
    MetricSpec("node_refusals_untold", "counter", "Refusals above node_agent.refusals_per_minute: not on actions.v1."),
)


class NodeCollector(Collector):
    """Reads the agent's own counts whenever somebody asks."""

    def __init__(self, agent: NodeAgent) -> None:
        self._agent = agent

    def _values(self) -> dict[str, _Values]:
        agent, enforcer = self._agent, self._agent.enforcer
        entries = enforcer.tally.entries()
        by_kind: _Values = {(kind,): float(sum(entry.kind == kind for entry in entries)) for kind in ("cut", "limit")}
        return {
            "node_enforcing": {(): float(enforcer.problem is None)},
            "node_synced": {(): float(agent.synced)},
            "node_entries": by_kind,
            "node_dropped_packets": {(): enforcer.tally.packets},
            "node_dropped_bytes": {(): enforcer.tally.bytes},
            "node_entry_packets": {(e.kind, e.what, e.response_id): e.packets for e in entries},
            "node_entry_last_cut": {(e.kind, e.what, e.response_id): e.last_cut for e in entries},
            "node_commands": dict(sorted(agent.counts.commands.items())),
            "node_commands_ignored": {(): enforcer.ignored},
            "node_refusals_untold": {(): agent.counts.untold},
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


def make_registry(agent: NodeAgent) -> CollectorRegistry:
    """Return a registry of its own with the agent's metrics."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(agent))
    return registry


def metrics_table() -> str:
    """Return the agent's part of `docs/metrics.md`."""
    lines = [
        "", "## Of the node agent", "", "Served by `sluicegate node-agent`; made from `stream/node_telemetry.py`.", "",
        "| metric | kind | labels | meaning |", "|---|---|---|---|",
    ]  # fmt: skip
    return "\n".join([*lines, *metric_rows(METRICS)]) + "\n"
