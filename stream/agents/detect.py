"""detect: events.v1 → rollups.v1 and alerts.v1, one stage per event partition."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from schemas.alert import Alert, Watermark
from schemas.edge import Edge
from schemas.event_codec import EventDecodeError, EventMessage, decode
from schemas.events import KINDS
from schemas.rollups import RollupMessage
from schemas.topics import CONTENT_TYPE_HEADER, EDGES, EVENTS, ROLLUPS, ROLLUPS_ARROW, WATCH
from schemas.watch import WatchRow
from stream.agents.alert_records import alert_records, count_excepted
from stream.records import Incoming, Outgoing
from stream.roles import Stage, Undecodable
from stream.telemetry import Telemetry


class StageOutput(Protocol):
    """What a detect or correlate stage says about the messages it was fed."""

    @property
    def alerts(self) -> Sequence[Alert]:
        """Alert revisions, in order."""

    @property
    def rollups(self) -> Sequence[RollupMessage]:
        """Rollups, each for an explicit partition."""

    @property
    def watermark(self) -> Watermark | None:
        """Up to where everything has been said, where that moved."""

    @property
    def excepted(self) -> Mapping[str, int]:
        """Findings that exceptions kept from becoming alerts, by the exception's name."""


class DetectOutput(StageOutput, Protocol):
    """What a detect stage says besides."""

    @property
    def watched(self) -> Sequence[WatchRow]:
        """What is still seen of contained attacks, in order."""

    @property
    def edges(self) -> Sequence[Edge]:
        """Whom workloads talked to, in order."""


class DetectStage(Stage, Protocol):
    """The stage as this agent uses it."""

    def feed(self, messages: Sequence[EventMessage]) -> DetectOutput:
        """Feed messages of the partition in log order."""

    def announce_empty(self) -> Sequence[RollupMessage]:
        """Tell every rollup partition not to wait for this sender; nothing where a node is known."""

    def announce_idle(self) -> Sequence[RollupMessage]:
        """Tell every rollup partition that nothing comes any more from this sender, up to where it has spoken."""

    def counts(self) -> Mapping[str, int]:
        """How often clocks, repeats and gaps of the log needed a rule so far; how many nodes there are, by state."""

    def table_counts(self) -> Mapping[str, Mapping[str, int]]:
        """What the table of each key space holds and did not take so far."""


class DetectRole:
    """See `stream.roles.Role`."""

    name = "detect"
    topic = EVENTS.word
    stateful = True

    def __init__(self, open_stage: Callable[[int], DetectStage], telemetry: Telemetry) -> None:
        self._open_stage = open_stage
        self._telemetry = telemetry

    def open(self, partition: int) -> DetectStage:
        """A fresh stage."""
        return self._open_stage(partition)

    def read(self, record: Incoming) -> EventMessage:
        """See `stream.roles.Role.read`."""
        try:
            message = decode(record.value or b"")
        except EventDecodeError as error:
            raise Undecodable(str(error)) from None
        # The topic has LogAppendTime, so this is the broker's word. Brokers count in ms; 0: the record has none.
        return replace(message, appended_ms=round(record.append_time * 1000) or None)

    async def process(self, stage: DetectStage, words: Sequence[EventMessage], partition: int) -> Sequence[Outgoing]:
        """See `stream.roles.Role.process`."""
        for kind in KINDS:
            if rows := sum(message.rows(kind) for message in words):
                self._telemetry.rows.labels(self.name, kind).inc(rows)
        output = stage.feed(words)
        sender = (self.name, partition)
        count_excepted(output.excepted, self._telemetry)
        self._telemetry.note_log(self.name, partition, stage.counts())
        alerts = alert_records(output.alerts, output.watermark, sender, self._telemetry)
        rollups = [rollup_record(rollup) for rollup in output.rollups]
        if rollups:
            self._telemetry.watermark.labels(*map(str, sender)).set(output.rollups[-1].header.tick)
            self._telemetry.note_tables(self.name, partition, stage.table_counts())
        if alerts and rollups:
            # Correlate says the watermark of a tick once it has these rollups; the alerts must be there before.
            rollups[0] = replace(rollups[0], after_durable=True)
        watched = [Outgoing(WATCH.word, row.response_id.encode(), row.encode()) for row in output.watched]
        edges = [Outgoing(EDGES.word, f"{e.namespace}/{e.workload}".encode(), e.encode()) for e in output.edges]
        return [*alerts, *rollups, *watched, *edges]

    def announce(self, stage: DetectStage, *, quiet: bool) -> Sequence[Outgoing]:
        """See `stream.roles.Role.announce`."""
        return [rollup_record(rollup) for rollup in (stage.announce_idle() if quiet else stage.announce_empty())]


def rollup_record(rollup: RollupMessage) -> Outgoing:
    """A rollup as a record for its explicit partition."""
    header = rollup.header
    key = f"{header.cluster}/{header.sender}".encode()
    return Outgoing(ROLLUPS.word, key, rollup.encode(), rollup.partition, ((CONTENT_TYPE_HEADER, ROLLUPS_ARROW),))
