"""Alerts from alerts.v1, in the topic's order, without a group: readers do not share them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from schemas.alert import Alert, decode_alert_record
from schemas.topics import ALERTS
from schemas.word import WordError
from sluicegate.terminal import note
from sluicegate.topic_reader import read_topic
from stream.settings import KafkaSettings


@dataclass(frozen=True)
class AlertRecord:
    """An alert revision and when the broker appended it, s since epoch."""

    alert: Alert
    appended: float


async def read_alerts(kafka: KafkaSettings, *, from_beginning: bool, follow: bool) -> AsyncIterator[AlertRecord]:
    """Give alerts; what is none is said on standard error and passed over.

    Args:
        kafka: where.
        from_beginning: start with the oldest record, not with the next one.
        follow: go on for ever; else end with what was there at the start.

    Raises:
        ConnectionProblem: the broker does not answer.
        CommandProblem: the topic does not exist.
    """
    async with aclosing(read_topic(kafka, ALERTS, 0.0 if from_beginning else None, follow=follow)) as records:
        async for record in records:
            if record is not None and (alert := _alert(record.value, record.offset)) is not None:
                yield AlertRecord(alert, record.timestamp / 1000)


def _alert(value: bytes | None, offset: int) -> Alert | None:
    try:
        record = decode_alert_record(value or b"")
    except WordError:
        note(f"warning: record {offset} of {ALERTS.word} is neither an alert nor a watermark; passed over")
        return None
    return record if isinstance(record, Alert) else None
