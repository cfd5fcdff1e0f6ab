"""Alerts from alerts.v1, in the topic's order, without a group: readers do not share them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from schemas.alert import Alert, decode_alert_record
from schemas.topics import ALERTS
from sluicegate.problems import CommandProblem
from sluicegate.terminal import note
from stream.connection import client_arguments, unreachable
from stream.settings import KafkaSettings

_POLL_MS = 500


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
    # Seeking to the beginning after assign() races with the client's own reset to what this says.
    start = "earliest" if from_beginning else "latest"
    arguments = client_arguments(kafka, "alerts-tail")
    consumer = AIOKafkaConsumer(**arguments, enable_auto_commit=False, auto_offset_reset=start)
    place = TopicPartition(ALERTS.name(kafka.prefix), 0)
    try:
        await consumer.start()
        if place.topic not in await consumer.topics():
            message = f"no topic {place.topic} on {kafka.bootstrap}: run sluicegate topics create"
            raise CommandProblem(message)
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        while follow or await consumer.position(place) < end:
            for record in (await consumer.getmany(place, timeout_ms=_POLL_MS)).get(place, []):
                alert = _alert(record.value, record.offset)
                if alert is not None:
                    yield AlertRecord(alert, record.timestamp / 1000)
    except (KafkaError, OSError) as error:
        raise unreachable(kafka, error) from None
    finally:
        await consumer.stop()


def _alert(value: bytes | None, offset: int) -> Alert | None:
    try:
        record = decode_alert_record(value or b"")
    except ValidationError:
        note(f"warning: record {offset} of {ALERTS.word} is neither an alert nor a watermark; passed over")
        return None
    return record if isinstance(record, Alert) else None
