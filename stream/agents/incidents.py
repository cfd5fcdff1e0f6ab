"""incidents: alerts.v1 → incidents.v1; one partition, so that there is one order."""

from collections.abc import Callable, Sequence
from typing import Protocol

from pydantic import ValidationError

from schemas.alert import Alert, AlertRecord, Watermark, decode_alert_record
from schemas.incident import Incident
from schemas.topics import ALERTS, INCIDENTS
from stream.records import Incoming, Outgoing
from stream.roles import Stage, Undecodable


class IncidentStage(Stage, Protocol):
    """The stage as this agent uses it."""

    def feed(self, records: Sequence[Alert | Watermark]) -> Sequence[Incident]:
        """Feed alerts and watermarks in log order."""


class IncidentsRole:
    """See `stream.roles.Role`."""

    name = "incidents"
    topic = ALERTS.word
    stateful = True

    def __init__(self, open_stage: Callable[[], IncidentStage]) -> None:
        self._open_stage = open_stage

    def open(self, partition: int) -> IncidentStage:
        """A fresh stage; the topic has one partition."""
        return self._open_stage()

    def read(self, record: Incoming) -> AlertRecord:
        """See `stream.roles.Role.read`."""
        return read_alert_record(record)

    async def process(self, stage: IncidentStage, words: Sequence[AlertRecord], partition: int) -> Sequence[Outgoing]:
        """See `stream.roles.Role.process`."""
        incidents = stage.feed(words)
        return [Outgoing(INCIDENTS.word, i.id.encode(), i.encode()) for i in incidents]

    def announce(self, stage: IncidentStage, *, quiet: bool) -> Sequence[Outgoing]:
        """Nothing to announce."""
        return ()


def read_alert_record(record: Incoming) -> AlertRecord:
    """An alert or a watermark from alerts.v1.

    Raises:
        Undecodable: neither.
    """
    try:
        return decode_alert_record(record.value or b"")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        message = f"alert record: {'.'.join(str(p) for p in first['loc'])}: {first['msg']}"
        raise Undecodable(message) from None
