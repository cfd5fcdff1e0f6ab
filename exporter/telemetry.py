"""Every metric of the live exporter, defined once; `docs/metrics.md` lists them from here."""

from __future__ import annotations

from collections.abc import Callable

from exporter.backlog import BacklogState
from exporter.counted import CountsCollector, Metric, Values, metrics_section
from exporter.live import LiveSummary
from exporter.live_source import SourceState

_LATE_S = 10  # seconds without a second of its own after which an exporter counts as stuck


METRICS: tuple[Metric, ...] = (
    Metric("exporter_messages", "counter", "Messages made, heartbeats included."),
    Metric("exporter_rows", "counter", "Rows in them, all kinds."),
    Metric("exporter_lost_rows", "counter", "Rows and connections shed at a limit."),
    Metric(
        "exporter_read", "counter", "Packets (source packets), kernel messages (conntrack) or rows (host).", ("source",)
    ),
    Metric("exporter_lost_packets", "counter", "Of those, dropped before they were read.", ("source",)),
    Metric("exporter_interfaces", "gauge", "Interfaces watched.", ("source",)),
    Metric("exporter_problems", "gauge", "Different things that went wrong since the start.", ("source",)),
    Metric("exporter_cut", "gauge", "The last second made, s since epoch."),
    Metric("exporter_waiting_bytes", "gauge", "What waits for the broker, in memory or on disk.", ("place",)),
    Metric("exporter_dropped_messages", "counter", "Messages dropped for want of room while it was away."),
    Metric("exporter_broker_away", "gauge", "1 while the broker does not take messages."),
)  # fmt: skip


class ExporterCollector(CountsCollector):
    """Reads the exporter's own counts whenever somebody asks.

    Args:
        states: how each source stands, by name.
        backlog: what waits for the broker.
        clock: returns s since epoch.
    """

    metrics = METRICS

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

    def values(self) -> Values:
        """See `CountsCollector.values`."""
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


def metrics_table() -> str:
    """Return the exporter's part of `docs/metrics.md`."""
    served = "Served by `sluicegate export --to kafka` without files; made from `exporter/telemetry.py`."
    return metrics_section("Of the live exporter", served, METRICS)
