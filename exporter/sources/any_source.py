"""A file of any kind that is read, told apart by its content: captures and flow logs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from exporter.chunks import CaptureReport
from exporter.flow_records import salt
from exporter.message_stream import Identity
from exporter.record_cutter import RecordCutter
from exporter.settings import ExporterSettings
from exporter.sources import capture
from exporter.sources.byte_source import ByteSource, CaptureError, open_source
from exporter.sources.lines import DamagedLines
from exporter.sources.log_reader import HEAD_BYTES, LogReader, Reading, recognise
from exporter.sources.pcap import is_pcap
from exporter.sources.pcapng import is_pcapng
from schemas.event_codec import EventMessage


def read_source(
    path: str | Path, node: str, cluster: str, settings: ExporterSettings | None = None,
    report: CaptureReport | None = None, boot: str = "capture",
) -> Iterator[EventMessage]:  # fmt: skip
    """Read a capture or a flow log as the messages of one node; arguments as in ``capture.read_messages``.

    Raises:
        CaptureError: the file cannot be opened, or is nothing that can be read.
    """
    settings = settings or ExporterSettings()
    report = report if report is not None else CaptureReport()
    report.name = str(path)
    with open_source(path) as source:
        reader = _reader(source)
        if reader is None:
            yield from capture.messages_of(source, str(path), node, cluster, settings, report, boot)
        else:
            yield from _log_messages(reader, source, node, cluster, settings, report, boot)


def log_format(path: str | Path) -> str:
    """Return the format of a flow log; empty where a file is none.

    Raises:
        CaptureError: it cannot be opened.
    """
    with open_source(path) as source:
        reader = _reader(source)
        return reader.id if reader is not None else ""


def _reader(source: ByteSource) -> LogReader | None:
    start = source.peek(12)
    if is_pcap(start) or is_pcapng(start):
        # Before more is waited for: a capture may come from a pipe, packet by packet.
        return None
    data = source.peek(HEAD_BYTES)
    return recognise(data, len(data) < HEAD_BYTES)


def _log_messages(
    reader: LogReader, source: ByteSource, node: str, cluster: str, settings: ExporterSettings,
    report: CaptureReport, boot: str,
) -> Iterator[EventMessage]:  # fmt: skip
    identity = Identity(cluster, node, "log", boot, reader.id, int(reader.capabilities), "capture")
    cutter = RecordCutter(identity, tuple(reader.notes), settings, report)
    damaged = DamagedLines(report)
    reading = Reading(report.name, salt(cluster, node, settings.flow.seed), settings, report, damaged)
    for block in reader.read(source, reading):
        yield from cutter.feed(block)
    yield from cutter.finish()
    damaged.finish()
    _tell(source, report)
    if not report.records and report.malformed:
        problem = f"{report.name} has no record of {reader.title} that can be read"
        problem += f": {report.problems[0]}" if report.problems else ""
        raise CaptureError(problem)


def _tell(source: ByteSource, report: CaptureReport) -> None:
    if source.problem:
        report.note(f"{source.problem}; what follows was left out")
    if report.repeated:
        report.note(f"{report.repeated} records that another node or interface told again were left out")
    if report.late:
        report.note(
            f"{report.late} rows are older than a second already sent and count in a later one; sort the file by time"
        )
