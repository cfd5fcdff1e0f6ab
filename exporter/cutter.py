"""Packet chunks to event messages, cut on whole seconds of the packets' own time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from detectors.hashing import hash_text
from exporter.chunks import I64, U8, CaptureReport, PacketChunk
from exporter.dns_pairs import DnsPairs
from exporter.flow_groups import Segments, group
from exporter.flow_heads import FlowHeads
from exporter.flow_keys import packet_keys
from exporter.flow_table import FlowTable
from exporter.icmp_errors import Undelivered, undelivered
from exporter.link_block import LinkBlock
from exporter.link_claims import read_claims
from exporter.packets import Decoded, Packets, decode
from exporter.row_parts import split
from exporter.settings import ExporterSettings
from schemas.event_codec import EventMessage
from schemas.events import MAX_CUT, EventHeader

_SECOND = 1_000_000_000
_MARGIN = 86_400  # s; no time-out is longer


@dataclass(frozen=True)
class Identity:
    """Who sends: what every header of one exporter says."""

    cluster: str
    node: str
    exporter: str
    boot: str
    source: str
    capabilities: int
    clock: str


@dataclass(frozen=True)
class _Work:
    """One chunk, decoded and summed, with everything's second."""

    decoded: Decoded
    cuts: I64
    segments: Segments | None
    packet_cuts: I64
    segment_cuts: I64
    dns: I64
    dns_cuts: I64
    starts: tuple[I64, U8]
    claims: LinkBlock
    claim_cuts: I64
    bad_cuts: I64
    refused: Undelivered


class Cutter:
    """Turns the packets of one node into messages.

    The second of a packet is that of its time stamp, but never one that was already closed: late
    packets count in the second then open. Seconds without rows make no message.
    """

    def __init__(self, identity: Identity, settings: ExporterSettings, report: CaptureReport) -> None:
        self._identity = identity
        self._settings = settings
        self._report = report
        seed = settings.flow.seed
        self._flows = FlowTable(settings.flow, hash_text(f"{identity.cluster}/{identity.node}", seed))
        self._dns = DnsPairs(settings.dns)
        self._heads = FlowHeads(settings.heads)
        self._links: list[LinkBlock] = []
        self._interfaces: list[str] = [""]
        self._open = 0
        self._sequence = 0
        self._malformed = 0
        self._lost_rows = 0
        self._lost_packets = 0

    def feed(self, chunk: PacketChunk) -> Iterator[EventMessage]:
        """Take in a chunk; gives the messages of the seconds that it ends."""
        if not len(chunk):
            return
        # A time that no cut can bear, or after which time-outs could not pass any more, is a damaged one.
        chunk = replace(chunk, times=np.minimum(chunk.times, (MAX_CUT - _MARGIN) * _SECOND))
        self._interfaces = [interface.name for interface in chunk.table]
        self._lost_packets += chunk.lost
        if self._open == 0:
            self._open = int(chunk.times[0]) // _SECOND + 1
            # The heartbeat before the first second: whoever waits for all nodes knows of this one.
            yield self._message(self._open - 1, {})
        work = self._work(chunk)
        self._count(chunk, work)
        cuts = work.cuts[np.concatenate([[True], work.cuts[1:] != work.cuts[:-1]])]
        for cut in cuts.tolist():
            yield from self._advance(cut)
            self._take(work, cut)

    def _work(self, chunk: PacketChunk) -> _Work:
        cuts = np.maximum.accumulate(np.maximum(chunk.times // _SECOND + 1, self._open))
        # Late packets are taken to have come as the open second began.
        chunk = replace(chunk, times=np.maximum(chunk.times, (cuts - 1) * _SECOND))
        decoded = decode(chunk)
        packets = decoded.packets
        packet_cuts = cuts[packets.index]
        claims, bad = read_claims(chunk, decoded)
        dns = self._dns.select(packets)
        segments = None
        if len(packets.index):
            keys, backward = packet_keys(packets, self._settings.flow.seed)
            # Two more than are allowed: the first may continue a flow and so may the second.
            most = self._settings.flow.reopens_per_second + 2
            segments = group(packets, keys, backward, packet_cuts, most)
        return _Work(
            decoded, cuts, segments, packet_cuts, segments.cut if segments else packet_cuts, dns, packet_cuts[dns],
            self._heads.select(packets), claims, cuts[claims["position"]],
            np.sort(cuts[np.concatenate([decoded.bad, bad])]), undelivered(packets, self._settings.flow.seed),
        )  # fmt: skip

    def _count(self, chunk: PacketChunk, work: _Work) -> None:
        report = self._report
        report.packets += len(chunk)
        report.bytes += int(chunk.wire.sum())
        report.first = report.first or int(chunk.times[0])
        report.last = max(report.last, int(chunk.times.max()))
        report.late += int((chunk.times // _SECOND + 1 < work.cuts).sum())
        report.malformed += len(work.bad_cuts)
        report.other += work.decoded.other
        for problem in work.decoded.problems:
            report.note(problem)

    def _take(self, work: _Work, cut: int) -> None:
        """Add one second's part of a chunk to what is open."""
        packets: Packets = work.decoded.packets
        if work.segments is not None:
            self._take_flows(work, work.segments, cut)
            errors = _of(work.packet_cuts[work.refused.positions], cut)
            if len(errors):
                self._flows.refuse(work.refused.keys[errors], work.refused.backward[errors])
            chosen = _of(work.dns_cuts, cut)
            if len(chosen):
                self._dns.add(packets, work.dns[chosen])
        claims = _of(work.claim_cuts, cut)
        if len(claims):
            self._links.append({name: values[claims] for name, values in work.claims.items()})
        self._malformed += len(_of(work.bad_cuts, cut))
        self._open = cut

    def _take_flows(self, work: _Work, segments: Segments, cut: int) -> None:
        chosen = _of(work.segment_cuts, cut)
        packets, (at, kinds) = work.decoded.packets, work.starts
        placed = self._flows.add(segments, chosen, packets)
        span = _of(work.packet_cuts, cut)
        if not len(span):
            return
        begins = slice(*np.searchsorted(at, [span[0], span[-1] + 1]))
        self._heads.add(packets, span, (at[begins], kinds[begins]), segments, int(chosen[0]), placed, self._flows)

    def _advance(self, cut: int) -> Iterator[EventMessage]:
        """Close every second before ``cut`` in which something is to be said."""
        while self._open < cut:
            yield from self._close(self._open)
            noted = (self._flows.next_due, self._dns.next_due, self._heads.next_due)
            due = [when for when in noted if when is not None]
            self._open = max(self._open + 1, min([*due, cut]))

    def _close(self, cut: int, final: bool = False) -> Iterator[EventMessage]:
        flows = self._flows.close(cut, final)
        listed = {"dns": self._dns.close(cut, final), **self._heads.close(cut, final)}
        links, self._links = self._links, []
        malformed = self._dns.malformed + self._heads.malformed
        self._malformed += malformed
        self._report.malformed += malformed
        self._lost_rows += self._flows.lost + self._heads.lost
        self._dns.malformed = self._heads.malformed = self._flows.lost = self._heads.lost = 0
        parts, shed = split(flows, links, listed, self._interfaces, self._settings.cut)
        self._lost_rows += shed
        if not parts and not final:
            return
        parts = parts or [{}]
        for number, batches in enumerate(parts):
            last = final and number == len(parts) - 1
            yield self._message(cut, batches, number, len(parts), last)

    def _message(
        self, cut: int, batches: dict[str, pa.RecordBatch], part: int = 0, parts: int = 1, final: bool = False
    ) -> EventMessage:
        me = self._identity
        header = EventHeader(
            cluster=me.cluster, node=me.node, exporter=me.exporter, boot=me.boot, sequence=self._sequence, cut=cut,
            part=part, parts=parts, source=me.source, capabilities=me.capabilities,
            clock="capture" if me.clock == "capture" else "live", lost_packets=self._lost_packets,
            lost_rows=self._lost_rows, malformed=self._malformed, final=final,
        )  # fmt: skip
        self._report.lost_rows += self._lost_rows
        self._sequence += 1
        self._malformed = self._lost_rows = self._lost_packets = 0
        return EventMessage(header, batches)

    def finish(self, drain_seconds: int) -> Iterator[EventMessage]:
        """Let the clock run on, so that time-outs fire at their cuts, then close everything.

        The last message is marked final; without any packet there is none.
        """
        if self._open == 0:
            return
        if self._dns.cut_short:
            self._report.note(f"{self._dns.cut_short} DNS messages are cut short by the capture's snap length")
        if self._heads.cut_short:
            self._report.note(f"{self._heads.cut_short} TLS and HTTP heads are cut short by the capture's snap length")
        end = self._open + drain_seconds
        yield from self._advance(end)
        yield from self._close(end, final=True)


def _of(cuts: I64, cut: int) -> I64:
    """Return the positions of one cut in ascending cuts."""
    return np.arange(np.searchsorted(cuts, cut, "left"), np.searchsorted(cuts, cut, "right"))
