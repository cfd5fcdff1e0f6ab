"""The flow rows of one round of ticks as one set of groups.

A round holds at most one tick per node. Rows with equal (tick, source, destination, service) are one group with summed
measures. Every key space is then made from groups, of which there are at most as many as rows.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.amplifiers import AMPLIFIES, TUNNELS
from detectors.columns import Columns, halves_of, is_mapped
from detectors.filtered_measure import passing, split_measure
from detectors.hashing import U64, combine
from detectors.index import I64
from detectors.kernels.grouping import count_marked, number_words, sum_by
from detectors.outside import is_outside, is_private
from schemas.events import Capability, FlowMark

TCP, UDP, ICMP, SCTP, ICMPV6 = 6, 17, 1, 132, 58
Array = npt.NDArray[Any]

# traceroute sends UDP to ports from 33434 up (its documented base), 64 hops at most three times each, with
# a TTL that starts at 1. A scanner that keeps below this TTL on these few ports is missed, and only there.
_TRACEROUTE = (33434, 33625)
_TRACEROUTE_TTL = 32

# Answers of ordinary DNS, NTP and SNMP have up to about five times the IP bytes of their questions; what is
# worth forging a question for has ten times and more (US-CERT alert TA14-017A: 28 for DNS, 556 for NTP).
_AMPLIFIED = 10

# Echo, timestamp, address mask and information requests; ICMPv6 echo. Other types answer or announce.
_ICMP_REQUESTS, _ICMPV6_REQUESTS = np.zeros((2, 256), np.bool_)
_ICMP_REQUESTS[[8, 13, 15, 17]] = True
_ICMPV6_REQUESTS[[128]] = True


class FlowFrame:
    """Groups of flow rows with their measures.

    Per group, in order of first appearance: ``place`` (of the tick within the round), ``node``, ``tick``, ``src``,
    ``dst`` (numbers into ``addresses`` and ``hashes``), ``service`` (protocol << 16 | responder port), ``copy``, and
    one int64 array per measure.
    """

    def __init__(self, columns: Columns, seed: int = 0) -> None:
        self.columns = columns
        self.rows = len(columns)
        self.hashes, self.addresses, (src, dst) = columns.addresses(("src", "dst"), seed)
        self.row_src, self.row_dst = src, dst  # address numbers by row
        self._row_proto = self._column("proto")
        self._row_port = self._column("dst_port")
        service = self._row_proto.astype(np.int32) << 16 | self._row_port
        copy = self._column("copy")
        if copy.any():
            service |= copy.astype(np.int32) << 24
        # Two numbers of 32 bits in a word each: equal words are equal rows.
        ends = src.astype(np.int64) << 32 | dst
        self._number, first = number_words(ends, self.columns.place.astype(np.int64) << 32 | service)
        self.first_row: I64 = first
        self.src, self.dst, self.place = src[first], dst[first], self.columns.place[first]
        self.copy = copy[first]
        self.service = (service[first] & 0xFFFFFF).astype(np.int64)
        self.proto = self._row_proto[first]

    def __len__(self) -> int:
        return len(self.src)

    def _column(self, name: str) -> Array:
        return self.columns.values(name)

    @cached_property
    def node(self) -> I64:
        """Node number."""
        nodes: I64 = self.columns.by_place("node")[self.place]
        return nodes

    @cached_property
    def tick(self) -> I64:
        """End of the second, s since epoch."""
        ticks: I64 = self.columns.by_place("tick")[self.place]
        return ticks

    @cached_property
    def capabilities(self) -> I64:
        """Capability bits of the source."""
        bits: I64 = self.columns.by_place("capabilities")[self.place]
        return bits

    @cached_property
    def private(self) -> npt.NDArray[np.bool_]:
        """Tell per address whether it lies in a range for private use."""
        return is_private(self.addresses)

    @cached_property
    def outside(self) -> npt.NDArray[np.bool_]:
        """Tell per address whether it lies outside (`detectors.outside.is_outside`)."""
        return is_outside(self.halves[:, 0], self.halves[:, 1])

    @cached_property
    def halves(self) -> U64:
        """Addresses as upper and lower 64 bits, u64, shape (addresses, 2)."""
        return halves_of(self.addresses)

    def _total(self, values: Array) -> I64:
        totals: I64 = sum_by(self._number, values.astype(np.int64), len(self))
        return totals

    def _marked(self, bit: FlowMark) -> I64:
        """Count rows with a mark."""
        counts: I64 = count_marked(self._number, self._marks, np.uint8(bit), len(self))
        return counts

    @cached_property
    def _marks(self) -> Array:
        return self._column("marks")

    @cached_property
    def _opened(self) -> npt.NDArray[np.bool_]:
        opened: npt.NDArray[np.bool_] = (self._marks & int(FlowMark.OPENED)) != 0
        return opened

    @cached_property
    def opened(self) -> I64:
        """Flows first seen."""
        return self._marked(FlowMark.OPENED)

    @cached_property
    def attempts(self) -> I64:
        """New TCP connections and QUIC flows (UDP to 443)."""
        stream = (self._row_proto == TCP) | ((self._row_proto == UDP) & (self._row_port == 443))
        return self._total(self._opened & stream)

    @cached_property
    def probes(self) -> I64:
        """Flows first seen that could be probes of a port or host.

        Not traceroute's packets, not ICMP other than requests, not what is sent to a group, not UDP from a
        server's port whose question may have been forgotten, and not flows whose initiator has sent nothing
        (answers to requests that passed elsewhere).
        """
        walk = (self._row_proto == UDP) & (self._row_port >= _TRACEROUTE[0]) & (self._row_port <= _TRACEROUTE[1])
        walk &= self._column("ttl_max") < _TRACEROUTE_TTL
        kind = self._column("icmp_type")
        other = (self._row_proto == ICMP) & ~_ICMP_REQUESTS[kind]
        other |= (self._row_proto == ICMPV6) & ~_ICMPV6_REQUESTS[kind]
        other |= (self._row_proto == UDP) & ~self._column("direction_known")
        sent = self._column("src_packets") > 0
        return self._total(self._opened & sent & ~walk & ~other & ~self.to_group[self.row_dst])

    @cached_property
    def to_group(self) -> npt.NDArray[np.bool_]:
        """Tell per address whether it is a multicast or the limited broadcast address."""
        mapped = is_mapped(self.addresses)
        four = self.addresses[:, 12:]
        group4 = ((four[:, 0] >= 224) & (four[:, 0] < 240)) | (four == 255).all(axis=1)
        group: npt.NDArray[np.bool_] = np.where(mapped, group4, self.addresses[:, 0] == 255)
        return group

    @cached_property
    def udp_probes(self) -> I64:
        """Probes that are UDP."""
        probes: I64 = np.where(self.proto == UDP, self.probes, 0)
        return probes

    @cached_property
    def odd_probes(self) -> I64:
        """TCP flows first seen without a SYN: FIN, NULL, Xmas and ACK probes, or flows joined midway.

        0 where the source does not tell flags.
        """
        told = self.capabilities & int(Capability.TCP_FLAGS) != 0
        odd = (self._row_proto == TCP) & (self._column("src_flags") & 2 == 0) & (self._column("src_packets") > 0)
        odd_probes: I64 = np.where(told, self._total(self._opened & odd), 0)
        return odd_probes

    @cached_property
    def conversed(self) -> I64:
        """Flows that have carried payload both ways; an answered echo request is no conversation."""
        talked: I64 = np.where((self.proto == ICMP) | (self.proto == ICMPV6), 0, self.exchanged)
        return talked

    @cached_property
    def dangling(self) -> I64:
        """1 for groups with probes of which none is known to have become a conversation."""
        unfinished: I64 = ((self.probes > 0) & (self.conversed == 0)).astype(np.int64)
        return unfinished

    def interface(self, groups: I64) -> U64:
        """Hash of the interface by which the first row of each given group entered."""
        return self.columns.word_hashes("interface", self.first_row[groups])

    @cached_property
    def established(self) -> I64:
        """Flows whose handshake completed, or that were first answered."""
        return self._marked(FlowMark.ESTABLISHED)

    @cached_property
    def exchanged(self) -> I64:
        """Flows that have now carried payload both ways."""
        return self._marked(FlowMark.EXCHANGED)

    @cached_property
    def refused(self) -> I64:
        """Flows refused."""
        return self._marked(FlowMark.REFUSED)

    @cached_property
    def unanswered(self) -> I64:
        """Flows given up as unanswered."""
        return self._marked(FlowMark.UNANSWERED)

    @cached_property
    def failed(self) -> I64:
        """Flows refused or unanswered."""
        return self.refused + self.unanswered

    @cached_property
    def first_opened(self) -> I64:
        """Row of the first flow that each group opened, -1 where it opened none."""
        rows = self._opened.nonzero()[0]
        first = np.full(len(self), -1, np.int64)
        first[self._number[rows[::-1]]] = rows[::-1]  # of several writes to one place the last one stands
        return first

    @cached_property
    def conn_start_ms(self) -> I64:
        """First packet of the flow of each row, ms since epoch."""
        started: I64 = self._column("conn_start") // 1_000_000
        return started

    @cached_property
    def bursts(self) -> I64:
        """Bursts that began after at least a second of quiet."""
        return self._total(self._column("bursts"))

    @cached_property
    def burst_gap_sum(self) -> I64:
        """Sum of the quiet gaps before bursts, ms."""
        return self._total(self._column("burst_gap_sum"))

    @cached_property
    def burst_gap_squares(self) -> I64:
        """Sum of the squares of those gaps, ms²."""
        return self._total(self._column("burst_gap_squares"))

    @cached_property
    def syn(self) -> I64:
        """SYN packets by initiators."""
        return self._total(self._column("src_syn"))

    @cached_property
    def src_bytes(self) -> I64:
        """IP bytes by initiators."""
        return self._total(self._column("src_bytes"))

    @cached_property
    def dst_bytes(self) -> I64:
        """IP bytes by responders."""
        return self._total(self._column("dst_bytes"))

    @cached_property
    def src_packets(self) -> I64:
        """Packets by initiators."""
        return self._total(self._column("src_packets"))

    @cached_property
    def dst_packets(self) -> I64:
        """Packets by responders."""
        return self._total(self._column("dst_packets"))

    @cached_property
    def _unheard(self) -> npt.NDArray[np.bool_]:
        """Rows of UDP in which only the initiator spoke; tunnels and what is sent to a group are left out."""
        rows: npt.NDArray[np.bool_] = self._row_proto == UDP
        rows &= (self._column("dst_packets") == 0) & (self._column("src_packets") > 0)
        if rows.any():
            rows &= ~TUNNELS[self._row_port] & ~self.to_group[self.row_dst]
        return rows

    @cached_property
    def _answers(self) -> npt.NDArray[np.bool_]:
        """Of these, the rows from an amplifier's port; peers of one service use the same port at both ends."""
        port = self._column("src_port")
        answers: npt.NDArray[np.bool_] = self._unheard & AMPLIFIES[port] & (port != self._row_port)
        return answers

    @cached_property
    def udp_packets(self) -> I64:
        """UDP packets that nobody answered in their tick, other than answers of amplifiers."""
        return self._chosen(self._unheard & ~self._answers, "src_packets")

    @cached_property
    def udp_flows(self) -> I64:
        """Flows first seen of those packets."""
        return self._total(self._opened & self._unheard & ~self._answers)

    @cached_property
    def icmp_packets(self) -> I64:
        """ICMP requests, and echo replies that answer nothing."""
        kind = self._column("icmp_type")
        rows = (self._row_proto == ICMP) & (_ICMP_REQUESTS[kind] | (kind == 0))
        rows |= (self._row_proto == ICMPV6) & (_ICMPV6_REQUESTS[kind] | (kind == 129))
        return self._chosen(rows, "src_packets")

    @cached_property
    def answer_packets(self) -> I64:
        """UDP packets from an amplifier's port that answer nothing."""
        return self._chosen(self._answers, "src_packets")

    @cached_property
    def answer_bytes(self) -> I64:
        """IP bytes of those packets."""
        return self._chosen(self._answers, "src_bytes")

    @cached_property
    def unasked_synacks(self) -> I64:
        """SYN-ACKs with which a flow begins, or that were answered with RST though no SYN had been sent.

        The flow's initiator, in whose name somebody else asked, is the victim. A handshake that a cut divides is
        neither: it began before, and its SYN-ACK is answered with ACK.
        """
        rows = (self._row_proto == TCP) & (self._column("dst_synack") > 0) & (self._column("src_syn") == 0)
        if rows.any():
            rows &= (self._column("conn_start") == self._column("start")) | (self._column("src_rst") > 0)
            rows &= (self._marks & int(FlowMark.ESTABLISHED)) == 0
        return self._chosen(rows, "dst_synack")

    @cached_property
    def induced_questions(self) -> I64:
        """Questions to an amplifier that were answered with at least ten times their IP bytes.

        Where the asker's address is forged, it is the victim.
        """
        return self._chosen(self._amplified, "src_packets")

    @cached_property
    def induced_bytes(self) -> I64:
        """IP bytes of the answers to them."""
        return self._chosen(self._amplified, "dst_bytes")

    @cached_property
    def _amplified(self) -> npt.NDArray[np.bool_]:
        rows: npt.NDArray[np.bool_] = (self._row_proto == UDP) & AMPLIFIES[self._row_port]
        if rows.any():
            rows &= self._column("dst_bytes") >= _AMPLIFIED * np.maximum(self._column("src_bytes"), 1)
        return rows

    def _chosen(self, rows: npt.NDArray[np.bool_], column: str) -> I64:
        """Sum a column over the chosen rows."""
        if not rows.any():
            return np.zeros(len(self), np.int64)
        return self._total(np.where(rows, self._column(column), 0))

    def measure(self, name: str) -> I64:
        """Return a measure per group by name; a filtered one counts only rows that its filter lets through."""
        base, where = split_measure(name)
        if where:
            return self._total(self._of_rows(base) * passing(self.columns.batches, where, "flow"))
        values: I64 = getattr(self, name)
        return values

    def _of_rows(self, name: str) -> Array:
        """Return a measure per row; only those that rules may filter are made row by row."""
        if name == "opened":
            return self._opened.astype(np.int64)
        if name == "failed":
            marks = self._marks
            refused, unanswered = ((marks & int(m)) != 0 for m in (FlowMark.REFUSED, FlowMark.UNANSWERED))
            failed: I64 = refused.astype(np.int64) + unanswered
            return failed
        return np.ones(self.rows, np.int64) if name == "matched" else self._column(name)

    @property
    def matched(self) -> I64:
        """Rows."""
        return self._total(np.ones(self.rows, np.int64))

    def detail(self, column: str, groups: I64) -> Array:
        """Return a raw column of the first row of each given group."""
        return self._column(column)[self.first_row[groups]]


def scoped(nodes: I64, hashes: U64) -> U64:
    """Return keys that differ between nodes."""
    return combine(nodes.astype(np.uint64), hashes)
