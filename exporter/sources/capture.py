"""Capture files as a source: pcap and pcapng, plain or gzip, from a path or standard input (``-``)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from exporter.chunks import PADDING, CaptureReport, PacketChunk
from exporter.cutter import Cutter
from exporter.message_stream import Identity
from exporter.settings import ExporterSettings, ReadingSettings
from exporter.sources.byte_source import ByteSource, CaptureError, open_source
from exporter.sources.pcap import HEADER_BYTES, PcapParser, is_pcap
from exporter.sources.pcapng import PcapngParser, is_pcapng
from schemas.event_codec import EventMessage
from schemas.events import CAPTURE_CAPABILITIES

__all__ = ["CaptureError", "messages_of", "read_chunks", "read_messages"]

EXPORTER_NAME = "capture"
_QUIET_SECONDS = 0.5
_EMPTY = np.zeros(0, np.int64)
_NOTHING = PacketChunk(np.zeros(PADDING, np.uint8), _EMPTY, _EMPTY, _EMPTY, _EMPTY, _EMPTY.astype(np.int32), ())
_REMEDY = (
    "give a pcap or pcapng file or a flow log that docs/exporter.md lists (also .gz); other captures: "
    "convert with 'editcap -F pcap IN OUT'"
)


def read_chunks(
    path: str | Path, settings: ReadingSettings | None = None, report: CaptureReport | None = None
) -> Iterator[PacketChunk]:
    """Read a capture in chunks of bounded size.

    A file of at most ``sort_bytes`` is sorted by time; a larger one, and standard input, comes in file
    order. A tail that is cut off or damaged ends the capture and is noted in ``report.problems``.

    Raises:
        CaptureError: the file cannot be opened, or is no capture. Nothing was given before.
    """
    settings = settings or ReadingSettings()
    report = report if report is not None else CaptureReport()
    report.name = str(path)
    with open_source(path) as source:
        yield from (chunk for chunk in _chunks(source, str(path), settings, report) if len(chunk))


def _chunks(
    source: ByteSource, path: str, settings: ReadingSettings, report: CaptureReport
) -> Iterator[PacketChunk]:  # fmt: skip
    """Give the chunks of an open capture; an empty one tells that a pipe was quiet for a moment."""
    head = bytearray(HEADER_BYTES)
    start = bytes(head[: source.fill(memoryview(head))])
    parser, ahead = _parser(path, start, settings)
    for chunk in _walk(source, parser, ahead, settings, report):
        for begin in range(0, max(1, len(chunk)), settings.chunk_packets):
            yield chunk.part(begin, begin + settings.chunk_packets)


def _parser(path: str, start: bytes, settings: ReadingSettings) -> tuple[PcapParser | PcapngParser, bytes]:
    """Return the parser for a file that begins so, and the bytes that are still its."""
    if is_pcapng(start):
        return PcapngParser(settings.max_packet_bytes), start
    if is_pcap(start) and len(start) == HEADER_BYTES:
        return PcapParser(start, settings.max_packet_bytes), b""
    if not start:
        problem = f"{path} is empty; {_REMEDY}"
    elif is_pcap(start) or start[:4] == b"\x0a\x0d\x0d\x0a":
        problem = f"{path} ends or is damaged inside its file header; record it again, or {_REMEDY}"
    else:
        problem = f"{path} is not a capture: it begins with {start[:8].hex(' ')}; {_REMEDY}"
    raise CaptureError(problem)


def _walk(
    source: ByteSource, parser: PcapParser | PcapngParser, rest: bytes, settings: ReadingSettings, report: CaptureReport
) -> Iterator[PacketChunk]:
    """Read block by block; a block of its own per read, because chunks keep theirs alive."""
    may_sort = source.whole and source.size <= settings.sort_bytes
    size = max(settings.sort_bytes, settings.block_bytes) if may_sort else settings.block_bytes
    if may_sort and not source.compressed:
        size = source.size + 1
    while True:
        room = len(rest) + size
        block = np.empty(room + PADDING, np.uint8)
        view = block.data
        view[: len(rest)] = rest
        while source.quiet(_QUIET_SECONDS):
            yield _NOTHING
        target = view[len(rest) : room]
        count = source.fill(target) if source.whole else source.read_into(target)
        end = len(rest) + count
        block[end : end + PADDING] = 0
        found = parser.walk(view, end)
        if found.problem:
            report.note(f"damaged, what follows was left out: {found.problem}")
        whole = may_sort and count < size
        yield from [found.chunks[0].in_time_order()] if whole and len(found.chunks) == 1 else found.chunks
        rest = bytes(view[found.consumed : end])
        if found.problem or not count or (source.whole and count < size):
            break
        may_sort, size = False, settings.block_bytes
    if source.problem:
        report.note(source.problem)
    if rest and not found.problem:
        report.note(f"cut off inside a packet; the {len(rest)} bytes after the last whole one were left out")


def read_messages(
    path: str | Path, node: str, cluster: str, settings: ExporterSettings | None = None,
    report: CaptureReport | None = None, boot: str = "capture",
) -> Iterator[EventMessage]:  # fmt: skip
    """Read a capture as the messages of one node: what ``replay`` and ``export`` send.

    The first message is a heartbeat one second before the data, the last is marked final. The same file
    and settings give the same messages.

    Args:
        path: the file; ``-`` for standard input.
        node: node that the rows are said to come from.
        cluster: cluster of the node.
        settings: defaults where None.
        report: filled while reading.
        boot: consumers drop repeats of (exporter, boot, sequence); a new one sends the same again.

    Raises:
        CaptureError: the file cannot be opened, or is no capture. Nothing was given before.
    """
    report = report if report is not None else CaptureReport()
    with open_source(path) as source:
        yield from messages_of(source, str(path), node, cluster, settings or ExporterSettings(), report, boot)


def messages_of(
    source: ByteSource, path: str, node: str, cluster: str, settings: ExporterSettings, report: CaptureReport, boot: str
) -> Iterator[EventMessage]:
    """Read an open capture; otherwise as ``read_messages``."""
    report.name = path
    identity = Identity(cluster, node, EXPORTER_NAME, boot, "capture", int(CAPTURE_CAPABILITIES), "capture")
    cutter = Cutter(identity, settings, report)
    for chunk in _chunks(source, path, settings.reading, report):
        yield from cutter.feed(chunk) if len(chunk) else cutter.rest(time.time_ns())
    if report.late:
        report.note(
            f"{report.late} packets are older than a second already counted and count in a later one; "
            "sort the file with 'reordercap IN OUT'"
        )
    yield from cutter.finish(settings.reading.drain_seconds)
