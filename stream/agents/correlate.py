"""correlate: rollups.v1 → alerts.v1, one stage per rollup partition; sees what spans nodes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from schemas.rollups import RollupDecodeError, RollupMessage, decode_rollup
from schemas.topics import ROLLUPS
from stream.agents.alert_records import alert_records, count_excepted
from stream.agents.detect import StageOutput
from stream.records import Incoming, Outgoing
from stream.roles import Stage, Undecodable
from stream.telemetry import Telemetry


class CorrelateStage(Stage, Protocol):
    """The stage as this agent uses it."""

    def feed(self, messages: Sequence[RollupMessage]) -> StageOutput:
        """Feed rollups of the partition in log order."""

    def counts(self) -> Mapping[str, int]:
        """How often repeats, late messages and silences of senders needed a rule so far."""

    def table_counts(self) -> Mapping[str, Mapping[str, int]]:
        """What the table of each key space holds and did not take so far."""


class CorrelateRole:
    """See `stream.roles.Role`."""

    name = "correlate"
    topic = ROLLUPS.word
    stateful = True

    def __init__(self, open_stage: Callable[[int], CorrelateStage], telemetry: Telemetry) -> None:
        self._open_stage = open_stage
        self._telemetry = telemetry

    def open(self, partition: int) -> CorrelateStage:
        """A fresh stage."""
        return self._open_stage(partition)

    def read(self, record: Incoming) -> RollupMessage:
        """See `stream.roles.Role.read`."""
        try:
            message = decode_rollup(record.value or b"")
        except RollupDecodeError as error:
            raise Undecodable(str(error)) from None
        return replace(message, appended_ms=round(record.append_time * 1000) or None)

    async def process(
        self, stage: CorrelateStage, words: Sequence[RollupMessage], partition: int
    ) -> Sequence[Outgoing]:
        """See `stream.roles.Role.process`."""
        for message in words:
            for section, batch in message.batches.items():
                self._telemetry.rows.labels(self.name, section).inc(batch.num_rows)
        output = stage.feed(words)
        count_excepted(output.excepted, self._telemetry)
        self._telemetry.note_log(self.name, partition, stage.counts())
        if output.watermark is not None:
            self._telemetry.note_tables(self.name, partition, stage.table_counts())
        return alert_records(output.alerts, output.watermark, (self.name, partition), self._telemetry)

    def announce(self, stage: CorrelateStage, *, quiet: bool) -> Sequence[Outgoing]:
        """Nothing: only event partitions are waited for."""
        return ()
