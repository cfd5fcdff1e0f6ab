"""incidents: alerts.v1 → incidents.v1 and alerts of sequences; one partition, so that there is one order."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from pydantic import ValidationError

from schemas.alert import Alert, AlertRecord, Watermark, decode_alert_record
from schemas.incident import Incident
from schemas.topics import ALERTS, INCIDENTS
from stream.agents.alert_records import alert_records, count_excepted
from stream.records import Incoming, Outgoing
from stream.roles import Stage, Undecodable
from stream.telemetry import Telemetry


class IncidentOutput(Protocol):
    """What the stage says about the records it was fed."""

    @property
    def alerts(self) -> Sequence[Alert]:
        """Alerts of sequences, in order."""

    @property
    def incidents(self) -> Sequence[Incident]:
        """Incident revisions, in order."""

    @property
    def excepted(self) -> Mapping[str, int]:
        """Findings that exceptions kept from becoming alerts, by the exception's name."""


class IncidentStage(Stage, Protocol):
    """The stage as this agent uses it."""

    def feed(self, records: Sequence[Alert | Watermark]) -> IncidentOutput:
        """Feed alerts and watermarks in log order."""


class IncidentsRole:
    """See `stream.roles.Role`."""

    name = "incidents"
    topic = ALERTS.word
    stateful = True

    def __init__(self, open_stage: Callable[[], IncidentStage], telemetry: Telemetry) -> None:
        self._open_stage = open_stage
        self._telemetry = telemetry

    def open(self, partition: int) -> IncidentStage:
        """A fresh stage; the topic has one partition."""
        return self._open_stage()

    def read(self, record: Incoming) -> AlertRecord:
        """See `stream.roles.Role.read`."""
        return read_alert_record(record)

    async def process(self, stage: IncidentStage, words: Sequence[AlertRecord], partition: int) -> Sequence[Outgoing]:
        """See `stream.roles.Role.process`."""
        output = stage.feed(words)
        count_excepted(output.excepted, self._telemetry)
        # These alerts come back to this agent, which passes them over: it took them in when it made them.
        alerts = alert_records(output.alerts, None, (self.name, partition), self._telemetry)
        return [*alerts, *(Outgoing(INCIDENTS.word, i.id.encode(), i.encode()) for i in output.incidents)]

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
