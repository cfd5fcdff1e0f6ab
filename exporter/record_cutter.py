"""Rows of a flow log to event messages: sorted by time as far as memory allows, cut on whole seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from exporter.chunks import I64, CaptureReport
from exporter.message_stream import Identity
from exporter.record_rows import Rows, Slices
from exporter.settings import ExporterSettings
from schemas.event_codec import EventMessage
from schemas.events import EventHeader

_SECOND = 1_000_000_000


@dataclass
class RecordBlock:
    """What a reader made of a run of lines.

    Attributes:
        rows: rows of any kinds, in any order.
        records: records that became rows.
        malformed: records that could not be read.
        lost: packets or events that the source says it lost.
        sampling: one packet in so many was seen, at the coarsest record.
    """

    rows: list[Rows] = field(default_factory=list)
    records: int = 0
    malformed: int = 0
    lost: int = 0
    sampling: int = 1


class RecordCutter:
    """Turns the rows of one node into messages; the first is a heartbeat, the last is marked final.

    At least ``reading.sort_records`` rows wait for earlier ones to come. A row that comes even later is
    sent with the second then open, and counted as late. How rows come in blocks decides only that.
    """

    def __init__(
        self, identity: Identity, notes: tuple[str, ...], settings: ExporterSettings, report: CaptureReport
    ) -> None:
        self._identity, self._notes, self._settings, self._report = identity, notes, settings, report
        self._waiting: dict[str, list[Rows]] = {}
        self._count = 0
        self._open = 0
        self._sequence = 0
        self._malformed = 0
        self._lost_rows = 0
        self._lost_packets = 0
        self._sampling = 1

    def feed(self, block: RecordBlock) -> Iterator[EventMessage]:
        """Take in a block; gives the messages of the seconds for which no more rows are waited for."""
        self._report.records += block.records
        self._report.malformed += block.malformed
        self._malformed += block.malformed
        self._lost_packets += block.lost
        self._sampling = max(self._sampling, block.sampling)
        for rows in block.rows:
            if len(rows.when):
                self._waiting.setdefault(rows.kind, []).append(rows)
                self._count += len(rows.when)
                self._report.first = min(self._report.first or int(rows.when.min()), int(rows.when.min()))
                self._report.last = max(self._report.last, int(rows.when.max()))
        if self._count > 2 * self._settings.reading.sort_records:
            yield from self._release(self._settings.reading.sort_records)

    def finish(self) -> Iterator[EventMessage]:
        """Send what waits, then the last message; without any row there is none."""
        yield from self._release(0)
        if self._open:
            yield self._message(self._open + self._settings.reading.drain_seconds, {}, final=True)

    def _release(self, keep: int) -> Iterator[EventMessage]:
        if not self._count:
            return
        sorted_rows = {kind: _in_time_order(rows) for kind, rows in sorted(self._waiting.items())}
        cuts = {kind: when // _SECOND + 1 for kind, (_, when) in sorted_rows.items()}
        everything = np.sort(np.concatenate(list(cuts.values())))
        end = int(everything[-1]) + 1
        if keep:
            # A whole second at a time, and at least one.
            end = max(int(everything[len(everything) - keep]), int(everything[0]) + 1)
        self._waiting, self._count = {}, 0
        due: dict[str, tuple[pa.RecordBatch, I64]] = {}
        for kind, (batch, when) in sorted_rows.items():
            split = int(np.searchsorted(cuts[kind], end))
            due[kind] = batch.slice(0, split), cuts[kind][:split]
            if split < len(when):
                self._waiting[kind] = [Rows(kind, batch.slice(split), when[split:])]
                self._count += len(when) - split
        yield from self._send(due)

    def _send(self, due: dict[str, tuple[pa.RecordBatch, I64]]) -> Iterator[EventMessage]:
        first = min(int(cuts[0]) for _, cuts in due.values() if len(cuts))
        if not self._open:
            yield self._message(first - 1, {})
            self._open = first
        late = {kind: np.maximum(cuts, self._open) for kind, (_, cuts) in due.items()}
        self._report.late += sum(int((cuts < self._open).sum()) for _, cuts in due.values())
        slices = {kind: Slices(batch) for kind, (batch, _) in due.items()}
        for cut in np.unique(np.concatenate(list(late.values()))).tolist():
            spans = {kind: (int(np.searchsorted(cuts, cut)), int(np.searchsorted(cuts, cut + 1)))
                     for kind, cuts in late.items()}  # fmt: skip
            yield from self._second(cut, slices, {kind: span for kind, span in spans.items() if span[0] < span[1]})

    def _second(
        self, cut: int, slices: dict[str, Slices], spans: dict[str, tuple[int, int]]
    ) -> Iterator[EventMessage]:  # fmt: skip
        self._open = cut
        size, most = self._settings.cut.part_rows, self._settings.cut.second_rows
        ends = {kind: min(stop, start + most) for kind, (start, stop) in spans.items()}
        self._lost_rows += sum(stop - ends[kind] for kind, (_, stop) in spans.items())
        parts = max(-(-(ends[kind] - start) // size) for kind, (start, _) in spans.items())
        for number in range(parts):
            begins = {kind: start + number * size for kind, (start, _) in spans.items()}
            yield self._message(cut, {
                kind: slices[kind].part(begin, min(begin + size, ends[kind]))
                for kind, begin in begins.items() if begin < ends[kind]
            }, number, parts)  # fmt: skip

    def _message(
        self, cut: int, batches: dict[str, pa.RecordBatch], part: int = 0, parts: int = 1, final: bool = False
    ) -> EventMessage:
        me = self._identity
        header = EventHeader(
            cluster=me.cluster, node=me.node, exporter=me.exporter, boot=me.boot, sequence=self._sequence, cut=cut,
            part=part, parts=parts, source=me.source, capabilities=me.capabilities, clock="capture",
            sampling=self._sampling, lost_packets=self._lost_packets, lost_rows=self._lost_rows,
            malformed=self._malformed, final=final, notes=self._notes,
        )  # fmt: skip
        self._report.lost_rows += self._lost_rows
        self._sequence += 1
        self._malformed = self._lost_rows = self._lost_packets = 0
        return EventMessage(header, batches)


def _in_time_order(rows: list[Rows]) -> tuple[pa.RecordBatch, I64]:
    """Return all rows as one batch by time; equal times keep their order."""
    when = np.concatenate([r.when for r in rows])
    table = pa.Table.from_batches([r.batch for r in rows]).unify_dictionaries().combine_chunks()
    order = np.argsort(when, kind="stable")
    ordered = table.take(pa.array(order)).combine_chunks()
    return ordered.to_batches()[0], when[order]
