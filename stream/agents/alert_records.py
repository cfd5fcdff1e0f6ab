"""Alerts and a sender's watermark as records of alerts.v1; used by all agents that make alerts."""

from collections.abc import Iterable, Mapping

from schemas.alert import Alert, Watermark
from schemas.topics import ALERTS
from stream.records import Outgoing
from stream.telemetry import Telemetry


def alert_records(
    alerts: Iterable[Alert], watermark: Watermark | None, sender: tuple[str, int], telemetry: Telemetry
) -> list[Outgoing]:
    """Alerts in the order given, then the watermark that promises no more up to its tick.

    Args:
        alerts: revisions to send, keyed by subject.
        watermark: said after them, where it moved.
        sender: agent and partition, for the metrics.
        telemetry: counts both.
    """
    records = []
    for alert in alerts:
        records.append(Outgoing(ALERTS.word, alert.subject.encode(), alert.encode()))
        telemetry.alerts.labels(alert.detector, alert.severity).inc()
    if watermark is not None:
        records.append(Outgoing(ALERTS.word, watermark.sender.encode(), watermark.encode()))
        telemetry.watermark.labels(sender[0], str(sender[1])).set(watermark.tick)
    return records


def count_excepted(excepted: Mapping[str, int], telemetry: Telemetry) -> None:
    """Count findings that exceptions kept from becoming alerts."""
    for name, count in excepted.items():
        telemetry.excepted.labels(name).inc(count)
