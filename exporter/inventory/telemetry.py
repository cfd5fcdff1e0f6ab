"""Every metric of the inventory agent, defined once; `docs/metrics.md` lists them from here."""

from __future__ import annotations

from collections.abc import Callable

from exporter.counted import CountsCollector, Metric, Values, metrics_section
from exporter.inventory.agent import InventoryAgent

METRICS: tuple[Metric, ...] = (
    Metric("inventory_objects", "gauge", "Objects that hold now."),
    Metric("inventory_statements", "counter", "Statements that the broker has."),
    Metric("inventory_pending", "gauge", "Statements waiting for the broker."),
    Metric("inventory_watermark", "gauge", "Cut up to which everything is on the topic, s since epoch."),
    Metric("inventory_behind_seconds", "gauge", "Time since that cut; above 10 s names may be missing."),
    Metric("inventory_changes", "counter", "Objects listed and events watched."),
    Metric(
        "inventory_restarts", "counter",
        "Lists and watches begun again: expired (the server forgot the version), refused, unreachable.", ("reason",),
    ),
    Metric("inventory_unreadable", "counter", "Objects left out, because they could not be read.", ("kind",)),
    Metric("inventory_too_large", "counter", "Statements left out, because they are longer than 1 MiB."),
)  # fmt: skip


class InventoryCollector(CountsCollector):
    """Reads the agent's own counts whenever somebody asks."""

    metrics = METRICS

    def __init__(self, agent: InventoryAgent, clock: Callable[[], float]) -> None:
        self._agent = agent
        self._clock = clock

    def values(self) -> Values:
        """See `CountsCollector.values`."""
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


def metrics_table() -> str:
    """Return the agent's part of `docs/metrics.md`."""
    served = "Served by `sluicegate inventory`; made from `exporter/inventory/telemetry.py`."
    return metrics_section("Of the inventory agent", served, METRICS)
