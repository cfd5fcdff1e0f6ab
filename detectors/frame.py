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
from detectors.hashing import combine
from detectors.index import I64
from detectors.kernels import flows as kernel
from detectors.kernels.flows import ICMP as ICMP
from detectors.kernels.flows import ICMPV6 as ICMPV6
from detectors.kernels.flows import SCTP as SCTP
from detectors.kernels.flows import TCP as TCP
from detectors.kernels.flows import UDP as UDP
from detectors.kernels.grouping import number_words, sum_by
from detectors.mixing import U64
from detectors.outside import is_outside, is_private
from schemas.events import Capability, FlowMark

Array = npt.NDArray[Any]


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

    @cached_property
    def _connections(self) -> tuple[dict[str, I64], I64]:
        names = ("marks", "src_packets", "src_flags", "icmp_type", "ttl_max", "direction_known")
        sums, first = kernel.connections(
            self._number, len(self), self.to_group, self.row_dst, self._row_proto, self._row_port,
            *map(self._column, names),
        )  # fmt: skip
        return dict(zip(kernel.CONNECTIONS, sums, strict=True)), first

    @cached_property
    def _volumes(self) -> dict[str, I64]:
        names = ("src_packets", "dst_packets", "src_bytes", "dst_bytes", "src_syn", "bursts", "burst_gap_sum",
                 "burst_gap_squares")  # fmt: skip
        sums = kernel.volumes(self._number, len(self), *map(self._column, names))
        return dict(zip(kernel.VOLUMES, sums, strict=True))

    @cached_property
    def _floods(self) -> dict[str, I64]:
        names = ("src_port", "marks", "icmp_type", "src_packets", "dst_packets", "src_bytes", "dst_bytes", "src_syn",
                 "dst_synack", "src_rst", "conn_start", "start")  # fmt: skip
        sums = kernel.floods(
            self._number, len(self), self.to_group, AMPLIFIES, TUNNELS, self.row_dst, self._row_proto, self._row_port,
            *map(self._column, names),
        )  # fmt: skip
        return dict(zip(kernel.FLOODS, sums, strict=True))

    @cached_property
    def _marks(self) -> Array:
        return self._column("marks")

    @cached_property
    def _opened(self) -> npt.NDArray[np.bool_]:
        opened: npt.NDArray[np.bool_] = (self._marks & int(FlowMark.OPENED)) != 0
        return opened

    @property
    def opened(self) -> I64:
        """Flows first seen."""
        return self._connections[0]["opened"]

    @property
    def attempts(self) -> I64:
        """New TCP connections and QUIC flows (UDP to 443)."""
        return self._connections[0]["attempts"]

    @property
    def probes(self) -> I64:
        """Flows first seen that could be probes of a port or host.

        Not traceroute's packets, not ICMP other than requests, not what is sent to a group, not UDP from a
        server's port whose question may have been forgotten, and not flows whose initiator has sent nothing
        (answers to requests that passed elsewhere).
        """
        return self._connections[0]["probes"]

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
        odd_probes: I64 = np.where(told, self._connections[0]["odd"], 0)
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

    @property
    def established(self) -> I64:
        """Flows whose handshake completed, or that were first answered."""
        return self._connections[0]["established"]

    @property
    def exchanged(self) -> I64:
        """Flows that have now carried payload both ways."""
        return self._connections[0]["exchanged"]

    @property
    def refused(self) -> I64:
        """Flows refused."""
        return self._connections[0]["refused"]

    @property
    def unanswered(self) -> I64:
        """Flows given up as unanswered."""
        return self._connections[0]["unanswered"]

    @cached_property
    def failed(self) -> I64:
        """Flows refused or unanswered."""
        return self.refused + self.unanswered

    @property
    def first_opened(self) -> I64:
        """Row of the first flow that each group opened, -1 where it opened none."""
        return self._connections[1]

    @cached_property
    def conn_start_ms(self) -> I64:
        """First packet of the flow of each row, ms since epoch."""
        started: I64 = self._column("conn_start") // 1_000_000
        return started

    @property
    def bursts(self) -> I64:
        """Bursts that began after at least a second of quiet."""
        return self._volumes["bursts"]

    @property
    def burst_gap_sum(self) -> I64:
        """Sum of the quiet gaps before bursts, ms."""
        return self._volumes["burst_gap_sum"]

    @property
    def burst_gap_squares(self) -> I64:
        """Sum of the squares of those gaps, ms²."""
        return self._volumes["burst_gap_squares"]

    @property
    def syn(self) -> I64:
        """SYN packets by initiators."""
        return self._volumes["syn"]

    @property
    def src_bytes(self) -> I64:
        """IP bytes by initiators."""
        return self._volumes["src_bytes"]

    @property
    def dst_bytes(self) -> I64:
        """IP bytes by responders."""
        return self._volumes["dst_bytes"]

    @property
    def src_packets(self) -> I64:
        """Packets by initiators."""
        return self._volumes["src_packets"]

    @property
    def dst_packets(self) -> I64:
        """Packets by responders."""
        return self._volumes["dst_packets"]

    @property
    def udp_packets(self) -> I64:
        """UDP packets that nobody answered in their tick, other than answers of amplifiers.

        Tunnels and what is sent to a group are left out.
        """
        return self._floods["udp_packets"]

    @property
    def udp_flows(self) -> I64:
        """Flows first seen of those packets."""
        return self._floods["udp_flows"]

    @property
    def icmp_packets(self) -> I64:
        """ICMP requests, and echo replies that answer nothing."""
        return self._floods["icmp_packets"]

    @property
    def answer_packets(self) -> I64:
        """UDP packets from an amplifier's port that answer nothing."""
        return self._floods["answer_packets"]

    @property
    def answer_bytes(self) -> I64:
        """IP bytes of those packets."""
        return self._floods["answer_bytes"]

    @property
    def unasked_synacks(self) -> I64:
        """SYN-ACKs with which a flow begins, or that were answered with RST though no SYN had been sent.

        The flow's initiator, in whose name somebody else asked, is the victim. A handshake that a cut divides is
        neither: it began before, and its SYN-ACK is answered with ACK.
        """
        return self._floods["unasked_synacks"]

    @property
    def induced_questions(self) -> I64:
        """Questions to an amplifier that were answered with at least ten times their IP bytes.

        Where the asker's address is forged, it is the victim.
        """
        return self._floods["induced_questions"]

    @property
    def induced_bytes(self) -> I64:
        """IP bytes of the answers to them."""
        return self._floods["induced_bytes"]

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
