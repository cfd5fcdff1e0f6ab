"""Packets to rows: what one node's packets say, second by second.

Chunks are decoded and summed at once, then taken in second by second. Whoever holds the clock closes a second when
it is over: the packets' own time in a capture, the node's in a live exporter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from exporter.chunks import I64, U8, CaptureReport, PacketChunk
from exporter.dns_pairs import DnsPairs
from exporter.flow_groups import Segments, group
from exporter.flow_heads import FlowHeads
from exporter.flow_keys import packet_keys
from exporter.flow_origin import Resync
from exporter.flow_table import FlowTable, Placed
from exporter.icmp_errors import Undelivered, undelivered
from exporter.link_block import LinkBlock
from exporter.link_claims import read_claims
from exporter.packets import Decoded, Packets, decode
from exporter.second import Second
from exporter.settings import ExporterSettings
from exporter.sides import ENTERING, Locality

_SECOND = 1_000_000_000


@dataclass(frozen=True)
class Work:
    """One chunk, decoded and summed, with everything's second.

    Attributes:
        cuts: int64 (n,), ascending: the second of each packet.
    """

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
    claim_sides: I64
    bad_cuts: I64
    refused: Undelivered

    @property
    def seconds(self) -> list[int]:
        """The seconds in which it has packets, ascending."""
        cuts = self.cuts
        found: list[int] = cuts[np.concatenate([[True], cuts[1:] != cuts[:-1]])].tolist()
        return found


class PacketRows:
    """The flows, DNS messages, handshakes and claims of one node.

    ``read`` a chunk, ``take`` its seconds in their order, ``close`` each when it is over.

    Args:
        settings: limits and time-outs.
        node_hash: tells flow ids of nodes apart.
        report: counts what is read.
        place: where the node stands; None: the packets come from a capture, and every flow is reported.
        start: how to judge flows that are older than the exporter.
    """

    def __init__(
        self, settings: ExporterSettings, node_hash: int, report: CaptureReport, place: Locality | None = None,
        start: Resync | None = None,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._report = report
        self._place = place
        self._flows = FlowTable(settings.flow, node_hash, place, start)
        self._dns = DnsPairs(settings.dns)
        self._heads = FlowHeads(settings.heads)
        self._links: list[LinkBlock] = []
        self._malformed = 0

    @property
    def next_due(self) -> int | None:
        """The next cut at which something may time out; None while nothing is waited for."""
        noted = (self._flows.next_due, self._dns.next_due, self._heads.next_due)
        return min((when for when in noted if when is not None), default=None)

    def forget_interfaces(self, numbers: list[int]) -> None:
        """Close the flows of interfaces, given by number, with the second that is open."""
        self._flows.forget_interfaces(numbers)

    def read(self, chunk: PacketChunk, opened: int) -> Work:
        """Decode a chunk; packets before the second ``opened`` count in it. Not empty."""
        cuts = np.maximum.accumulate(np.maximum(chunk.times // _SECOND + 1, opened))
        # Late packets are taken to have come as the open second began.
        chunk = replace(chunk, times=np.maximum(chunk.times, (cuts - 1) * _SECOND))
        decoded = decode(chunk)
        packets = decoded.packets
        packet_cuts = cuts[packets.index]
        claims, bad = read_claims(chunk, decoded)
        dns = self._dns.select(packets)
        sides = np.array([interface.side for interface in chunk.table], np.int64)
        segments = None
        if len(packets.index):
            keys, backward = packet_keys(packets, self._settings.flow.seed)
            # Two more than are allowed: the first may continue a flow and so may the second.
            most = self._settings.flow.reopens_per_second + 2
            segments = group(packets, keys, backward, packet_cuts, most)
        work = Work(
            decoded, cuts, segments, packet_cuts, segments.cut if segments else packet_cuts, dns, packet_cuts[dns],
            self._heads.select(packets), claims, cuts[claims["position"]],
            sides[claims["interface"]],
            np.sort(cuts[np.concatenate([decoded.bad, bad])]), undelivered(packets, self._settings.flow.seed),
        )  # fmt: skip
        self._count(chunk, work)
        return work

    def _count(self, chunk: PacketChunk, work: Work) -> None:
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

    def take(self, work: Work, cut: int) -> None:
        """Add one second's part of a chunk to what is open."""
        packets: Packets = work.decoded.packets
        if work.segments is not None:
            placed = self._take_flows(work, work.segments, cut)
            errors = _of(work.packet_cuts[work.refused.positions], cut)
            if len(errors):
                self._flows.refuse(work.refused.keys[errors], work.refused.backward[errors])
            chosen = _of(work.dns_cuts, cut)
            if len(chosen):
                self._dns.add(packets, self._ours(work, work.dns[chosen], work.segments, placed, cut))
        claims = _of(work.claim_cuts, cut)
        if self._place is not None:
            # A frame that goes on to every pod is told where it came in.
            claims = claims[np.isin(work.claim_sides[claims], ENTERING)]
        if len(claims):
            self._links.append({name: values[claims] for name, values in work.claims.items()})
        self._malformed += len(_of(work.bad_cuts, cut))

    def _ours(self, work: Work, positions: I64, segments: Segments, placed: Placed, cut: int) -> I64:
        """Return those of a second's packets whose flows this node reports."""
        if self._place is None:
            return positions
        first = int(_of(work.segment_cuts, cut)[0])
        return positions[placed.ours[segments.of[positions] - first]]

    def _take_flows(self, work: Work, segments: Segments, cut: int) -> Placed:
        chosen = _of(work.segment_cuts, cut)
        packets, (at, kinds) = work.decoded.packets, work.starts
        placed = self._flows.add(segments, chosen, packets)
        span = _of(work.packet_cuts, cut)
        if not len(span):
            return placed
        begins = slice(*np.searchsorted(at, [span[0], span[-1] + 1]))
        self._heads.add(packets, span, (at[begins], kinds[begins]), segments, int(chosen[0]), placed, self._flows)
        return placed

    def close(self, cut: int, final: bool = False) -> Second:
        """End a second."""
        flows = self._flows.close(cut, final)
        listed = {"dns": self._dns.close(cut, final), **self._heads.close(cut, final)}
        links, self._links = self._links, []
        read = self._dns.malformed + self._heads.malformed
        self._report.malformed += read
        second = Second(flows, links, listed, lost_rows=self._flows.lost + self._heads.lost,
                        malformed=self._malformed + read)  # fmt: skip
        self._malformed = 0
        self._dns.malformed = self._heads.malformed = self._flows.lost = self._heads.lost = 0
        return second

    def note_cut_short(self) -> None:
        """Say in the report what could not be read because packets were cut short."""
        if self._dns.cut_short:
            self._report.note(f"{self._dns.cut_short} DNS messages are cut short by the capture's snap length")
        if self._heads.cut_short:
            self._report.note(f"{self._heads.cut_short} TLS and HTTP heads are cut short by the capture's snap length")


def _of(cuts: I64, cut: int) -> I64:
    """Return the positions of one cut in ascending cuts."""
    return np.arange(np.searchsorted(cuts, cut, "left"), np.searchsorted(cuts, cut, "right"))
