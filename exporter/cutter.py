"""Packet chunks to event messages, cut on whole seconds of the packets' own time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from detectors.mixing import hash_text
from exporter.chunks import CaptureReport, PacketChunk
from exporter.message_stream import Identity, MessageStream
from exporter.packet_rows import PacketRows
from exporter.settings import ExporterSettings
from schemas.event_codec import EventMessage
from schemas.events import MAX_CUT

_SECOND = 1_000_000_000
_LIVE = 10  # s
_MARGIN = 86_400  # s; no time-out is longer


class Cutter:
    """Turns the packets of one node into messages.

    The second of a packet is that of its time stamp, but never one that was already closed: late
    packets count in the second then open. Seconds without rows make no message.
    """

    def __init__(self, identity: Identity, settings: ExporterSettings, report: CaptureReport) -> None:
        self._report = report
        node = hash_text(f"{identity.cluster}/{identity.node}", settings.flow.seed)
        self._rows = PacketRows(settings, node, report)
        self._stream = MessageStream(identity, settings.cut)
        self._interfaces: list[str] = [""]
        self._open = 0

    def feed(self, chunk: PacketChunk) -> Iterator[EventMessage]:
        """Take in a chunk; gives the messages of the seconds that it ends."""
        if not len(chunk):
            return
        # A time that no cut can bear, or after which time-outs could not pass any more, is a damaged one.
        chunk = replace(chunk, times=np.minimum(chunk.times, (MAX_CUT - _MARGIN) * _SECOND))
        self._interfaces = [interface.name for interface in chunk.table]
        self._stream.lose(packets=chunk.lost)
        if self._open == 0:
            self._open = int(chunk.times[0]) // _SECOND + 1
            # The heartbeat before the first second: whoever waits for all nodes knows of this one.
            yield self._stream.heartbeat(self._open - 1)
        work = self._rows.read(chunk, self._open)
        for cut in work.seconds:
            yield from self._advance(cut)
            self._rows.take(work, cut)
            self._open = cut

    def rest(self, now: int) -> Iterator[EventMessage]:
        """Close the seconds that are over, where packets come as they are captured and none comes for a while.

        Args:
            now: ns since epoch. Packets that are older than ``_LIVE`` were captured before; their time goes on with
                the next of them.
        """
        over = now // _SECOND
        if self._open and over - _LIVE <= self._open <= over:
            yield from self._advance(over)

    def _advance(self, cut: int) -> Iterator[EventMessage]:
        """Close every second before ``cut`` in which something is to be said."""
        while self._open < cut:
            yield from self._close(self._open)
            due = self._rows.next_due
            self._open = max(self._open + 1, cut if due is None else min(due, cut))

    def _close(self, cut: int, final: bool = False) -> Iterator[EventMessage]:
        second = self._rows.close(cut, final)
        before = self._stream.shed
        yield from self._stream.messages(cut, second, self._interfaces, final=final)
        self._report.lost_rows += self._stream.shed - before

    def finish(self, drain_seconds: int) -> Iterator[EventMessage]:
        """Let the clock run on, so that time-outs fire at their cuts, then close everything.

        The last message is marked final; without any packet there is none.
        """
        if self._open == 0:
            return
        self._rows.note_cut_short()
        end = self._open + drain_seconds
        yield from self._advance(end)
        yield from self._close(end, final=True)
