"""Exporting captures: one or several nodes in one process, at any speed, into one delivery."""

from __future__ import annotations

import asyncio
import heapq
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from exporter.chunks import CaptureReport
from exporter.delivery import Delivery
from exporter.settings import ExporterSettings
from exporter.sources.any_source import read_source
from exporter.sources.byte_source import STANDARD_INPUT
from schemas.event_codec import EventMessage
from schemas.inventory import InventoryObject
from schemas.time_shift import shifted


@dataclass(frozen=True)
class Capture:
    """A capture file or flow log and the node that its rows are said to come from."""

    path: str | Path
    node: str


@dataclass
class ExportSummary:
    """What was exported so far.

    Attributes:
        messages: messages handed to the delivery.
        rows: rows in them, all kinds.
        cut: the latest cut sent, s since epoch, after shifting.
        reports: one per capture, in the order given.
    """

    messages: int = 0
    rows: int = 0
    cut: int = 0
    reports: list[CaptureReport] = field(default_factory=list)


@dataclass(frozen=True)
class Pace:
    """How fast to send, and by which clock.

    Attributes:
        speed: seconds of capture per second; None: as fast as they are taken.
        clock: returns s on a clock that never goes back; None: the event loop's.
        sleep: waits for s.
    """

    speed: float | None = None
    clock: Callable[[], float] | None = None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


Progress = Callable[[ExportSummary], None]


def node_messages(
    captures: Sequence[Capture], cluster: str, settings: ExporterSettings, reports: list[CaptureReport], boot: str
) -> Iterator[EventMessage]:
    """Read captures side by side: all heartbeats first, then messages by cut, node order and sequence.

    Raises:
        CaptureError: a capture cannot be read; every file is opened before the first message is given.
    """
    readers = []
    for capture in captures:
        report = CaptureReport()
        reports.append(report)
        readers.append(read_source(capture.path, capture.node, cluster, settings, report, boot))
    hellos = [message for reader in readers if (message := next(reader, None)) is not None]
    yield from hellos
    yield from heapq.merge(*readers, key=lambda message: message.header.cut)


async def export(
    captures: Sequence[Capture], delivery: Delivery, cluster: str, *, settings: ExporterSettings | None = None,
    pace: Pace | None = None, first_cut: int | None = None, boot: str | None = None, progress: Progress | None = None,
) -> ExportSummary:  # fmt: skip
    """Send captures to a delivery.

    Args:
        captures: files and their nodes; names of nodes differ.
        delivery: opened and closed here.
        cluster: cluster of the nodes.
        settings: defaults where None.
        pace: as fast as possible where None.
        first_cut: move all times by the same whole seconds, so that the earliest second ends here (s since
            epoch); None: times stay as they were captured.
        boot: names this run to consumers, which drop repeats of the same one; None: a new one.
        progress: called after each message.

    Raises:
        CaptureError: a capture cannot be read at all.
        DeliveryError: messages cannot be delivered.
        ValueError: two captures name one node.
    """
    if len({capture.node for capture in captures}) != len(captures):
        problem = "two captures name the same node; give each its own"
        raise ValueError(problem)
    summary = ExportSummary()
    messages = node_messages(
        captures, cluster, settings or ExporterSettings(), summary.reports, boot or uuid.uuid4().hex
    )
    # Before the delivery is opened, so that an unreadable file leaves nothing behind.
    first = next(messages, None)
    await delivery.open()
    complete = False
    try:
        if first is not None:
            waits = any(str(capture.path) == STANDARD_INPUT for capture in captures)
            await _send_all(first, _in_turn(messages, waits), delivery, pace or Pace(), first_cut, summary, progress)
        complete = True
    finally:
        await delivery.close(complete)
    return summary


async def _send_all(
    first: EventMessage, messages: AsyncIterator[EventMessage], delivery: Delivery, pace: Pace, first_cut: int | None,
    summary: ExportSummary, progress: Progress | None,
) -> None:  # fmt: skip
    hellos = [first]
    ahead: list[EventMessage] = []
    async for message in messages:
        if message.header.sequence:
            ahead.append(message)
            break
        hellos.append(message)
    # Heartbeats carry the cut before their first second.
    earliest = min(message.header.cut for message in hellos) + 1
    shift = 0 if first_cut is None else first_cut - earliest
    clock = pace.clock or asyncio.get_running_loop().time
    begin = clock()
    for message in hellos:
        await _send(shifted(message, shift), delivery, summary, progress, shift)

    async def send(message: EventMessage) -> None:
        if pace.speed is not None:
            wait = begin + (message.header.cut - earliest) / pace.speed - clock()
            if wait > 0:
                await pace.sleep(wait)
        await _send(shifted(message, shift), delivery, summary, progress, shift)

    for message in ahead:
        await send(message)
    async for message in messages:
        await send(message)


async def _in_turn(messages: Iterator[EventMessage], waits: bool) -> AsyncIterator[EventMessage]:
    """Give messages on; ``waits``: their source is a pipe, and what was sent leaves while it is quiet."""
    while True:
        message = await asyncio.to_thread(next, messages, None) if waits else next(messages, None)
        if message is None:
            return
        yield message


async def _send(
    message: EventMessage, delivery: Delivery, summary: ExportSummary, progress: Progress | None, shift: int
) -> None:
    for report in summary.reports:
        if report.identities:
            learned, report.identities = report.identities, []
            await delivery.identify([_moved(item, shift) for item in learned])
    await delivery.send(message)
    summary.messages += 1
    summary.rows += sum(message.rows(kind) for kind in message.batches)
    summary.cut = max(summary.cut, message.header.cut)
    if progress is not None:
        progress(summary)


def _moved(item: InventoryObject, shift: int) -> InventoryObject:
    """Return an identity moved in time like the rows; one that holds since ever stays."""
    return item.model_copy(update={"valid_from": item.valid_from + shift}) if item.valid_from else item
