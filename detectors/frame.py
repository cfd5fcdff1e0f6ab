"""The flow rows of one round of ticks as one set of groups.

A round holds at most one tick per node. Rows are sorted once, by (node, source, destination, service);
each run of equal keys is a group with summed measures. Every key space is then made from groups, of
which there are at most as many as rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.hashing import U64, combine, hash_addresses
from detectors.index import I64, positions
from detectors.names import hash_strings
from schemas.events import Capability, FlowMark

TCP, UDP, ICMP, SCTP, ICMPV6 = 6, 17, 1, 132, 58
Array = npt.NDArray[Any]

# traceroute sends UDP to ports from 33434 up (its documented base), 64 hops at most three times each, with
# a TTL that starts at 1. A scanner that keeps below this TTL on these few ports is missed, and only there.
_TRACEROUTE = (33434, 33625)
_TRACEROUTE_TTL = 32

# Echo, timestamp, address mask and information requests; ICMPv6 echo. Other types answer or announce.
_ICMP_REQUESTS, _ICMPV6_REQUESTS = np.zeros((2, 256), np.bool_)
_ICMP_REQUESTS[[8, 13, 15, 17]] = True
_ICMPV6_REQUESTS[[128]] = True


@dataclass(frozen=True)
class TickBatch:
    """The rows of one node's tick, as they came."""

    node: int
    tick: int
    capabilities: int
    batch: pa.RecordBatch


class FlowFrame:
    """Groups of flow rows with their measures.

    Per group: ``node``, ``tick``, ``src``, ``dst`` (numbers into ``addresses`` and ``hashes``),
    ``service`` (protocol << 16 | responder port), ``copy``, and one int64 array per measure.
    """

    def __init__(self, batches: Sequence[TickBatch], seed: int = 0) -> None:
        self.batches = [b for b in batches if b.batch.num_rows]
        self.rows = sum(b.batch.num_rows for b in self.batches)
        ends = read_endpoints(self.batches, ("src", "dst"), seed)
        self.hashes, self.addresses, (self._src, self._dst) = ends
        self._sort()

    def _column(self, name: str) -> Array:
        parts = [b.batch.column(name).to_numpy(zero_copy_only=False) for b in self.batches]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _sort(self) -> None:
        counts = [b.batch.num_rows for b in self.batches]
        place = np.repeat(np.arange(len(counts)), counts)
        proto = self._column("proto").astype(np.int64)
        port = self._column("dst_port").astype(np.int64)
        service = (proto << 16) | port
        copy = self._column("copy").astype(np.int64)
        bits = max(1, int(len(self.hashes) - 1).bit_length())
        if 2 * bits + 25 + max(1, len(counts).bit_length()) > 63:
            problem = f"a frame of {self.rows} rows has too many endpoints to sort at once"
            raise ValueError(problem)
        key = (((place << bits | self._src) << bits | self._dst) << 24 | service) << 1 | copy
        self._order = np.argsort(key, kind="stable")
        ordered = key[self._order]
        starts = positions(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        self._starts = starts
        first = self._order[starts]
        self.first_row = first
        self.src, self.dst = self._src[first], self._dst[first]
        self.service = service[first]
        self.proto = proto[first]
        self.copy = copy[first].astype(np.bool_)
        where = place[first]
        self.node = np.array([b.node for b in self.batches], np.int64)[where]
        self.tick = np.array([b.tick for b in self.batches], np.int64)[where]
        self.capabilities = np.array([b.capabilities for b in self.batches], np.int64)[where]
        self._row_proto, self._row_port = proto, port

    def __len__(self) -> int:
        return len(self.src)

    def _total(self, values: Array) -> I64:
        totals: I64 = np.add.reduceat(values[self._order].astype(np.int64), self._starts)
        return totals

    def _marked(self, bit: FlowMark) -> npt.NDArray[np.bool_]:
        marked: npt.NDArray[np.bool_] = (self._marks & int(bit)) != 0
        return marked

    @cached_property
    def _marks(self) -> Array:
        return self._column("marks")

    @cached_property
    def _opened(self) -> npt.NDArray[np.bool_]:
        return self._marked(FlowMark.OPENED)

    @cached_property
    def opened(self) -> I64:
        """Flows first seen."""
        return self._total(self._opened)

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
        return self._total(self._opened & sent & ~walk & ~other & ~self._to_group[self._dst])

    @cached_property
    def _to_group(self) -> npt.NDArray[np.bool_]:
        """Tell per address whether it is a multicast or the limited broadcast address."""
        mapped = (self.addresses[:, :10] == 0).all(axis=1) & (self.addresses[:, 10:12] == 255).all(axis=1)
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
        return self._interfaces[self.first_row[groups]]

    @cached_property
    def _interfaces(self) -> U64:
        parts = []
        for item in self.batches:
            column = item.batch.column("interface")
            parts.append(hash_strings(column.dictionary)[column.indices.to_numpy()])
        return np.concatenate(parts)

    @cached_property
    def established(self) -> I64:
        """Flows whose handshake completed, or that were first answered."""
        return self._total(self._marked(FlowMark.ESTABLISHED))

    @cached_property
    def exchanged(self) -> I64:
        """Flows that have now carried payload both ways."""
        return self._total(self._marked(FlowMark.EXCHANGED))

    @cached_property
    def refused(self) -> I64:
        """Flows refused."""
        return self._total(self._marked(FlowMark.REFUSED))

    @cached_property
    def unanswered(self) -> I64:
        """Flows given up as unanswered."""
        return self._total(self._marked(FlowMark.UNANSWERED))

    @cached_property
    def failed(self) -> I64:
        """Flows refused or unanswered."""
        return self.refused + self.unanswered

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

    def measure(self, name: str) -> I64:
        """Return a measure per group by name."""
        values: I64 = getattr(self, name)
        return values

    def detail(self, column: str, groups: I64) -> Array:
        """Return a raw column of the first row of each given group."""
        return self._column(column)[self.first_row[groups]]


class Grouping:
    """Some of a frame's groups, grouped again by fewer or other columns; measures are sums of sums."""

    def __init__(self, members: I64, keys: Sequence[I64], *, ordered: bool = False) -> None:
        """Group.

        Args:
            members: positions into the key columns.
            keys: int64 columns that are not negative, the most significant first.
            ordered: members are in key order already.
        """
        self.members = members if ordered else members[_order([k[members] for k in keys])]
        change = np.zeros(len(members), np.bool_)
        change[:1] = True
        for key in keys:
            values = key[self.members]
            change[1:] |= values[1:] != values[:-1]
        self.starts = positions(change)
        self.first = self.members[self.starts]
        self.number = np.cumsum(change) - 1  # group of each member

    def __len__(self) -> int:
        return len(self.starts)

    def keep(self, chosen: npt.NDArray[np.bool_]) -> Grouping:
        """Return only the chosen groups, in the same order."""
        inside = chosen[self.number]
        out = object.__new__(Grouping)
        out.members = self.members[inside]
        out.number = (np.cumsum(chosen) - 1)[self.number[inside]]
        out.first = self.first[chosen]
        lengths = np.diff(np.append(self.starts, len(self.members)))[chosen]
        out.starts = np.cumsum(lengths) - lengths
        return out

    def total(self, values: I64) -> I64:
        """Sum a per-group array over each grouping."""
        return np.add.reduceat(values[self.members], self.starts) if len(self.starts) else np.zeros(0, np.int64)


def _order(keys: Sequence[I64]) -> I64:
    """Return the stable order by several columns; one sort where they fit 63 bits together."""
    if not len(keys[0]):
        return np.zeros(0, np.int64)
    widths = [int(k.max()).bit_length() for k in keys]
    if sum(widths) > 63:
        return np.lexsort(list(reversed(keys)))
    packed = keys[0]
    for key, width in zip(keys[1:], widths[1:], strict=True):
        packed = packed << width | key
    return np.argsort(packed, kind="stable")


def read_endpoints(
    batches: Sequence[TickBatch], sides: Sequence[str], seed: int
) -> tuple[U64, npt.NDArray[np.uint8], list[I64]]:
    """Return the distinct addresses of several address columns, and each column as numbers into them.

    Args:
        batches: each with rows.
        sides: names of the columns.
        seed: of the hashes.

    Returns:
        Hashes, ascending, u64, shape (n,); addresses, uint8, shape (n, 16); one int64 array per side.
    """
    indices: list[I64] = []
    packed: list[npt.NDArray[np.uint8]] = []
    base = 0
    for side in sides:
        for item in batches:
            column = item.batch.column(side)
            packed.append(address_bytes(column.dictionary))
            indices.append(column.indices.to_numpy().astype(np.int64) + base)
            base += len(column.dictionary)
    everything = np.concatenate(packed)
    hashes, first, number = np.unique(hash_addresses(everything, seed), return_index=True, return_inverse=True)
    ends = number[np.concatenate(indices)]
    return hashes, everything[first], np.split(ends, len(sides))


def address_bytes(dictionary: pa.Array) -> npt.NDArray[np.uint8]:
    """Return an Arrow array of 16-byte values as uint8, shape (n, 16), without a copy."""
    data = dictionary.buffers()[1]
    count = len(dictionary)
    if data is None or not count:
        return np.zeros((0, 16), np.uint8)
    flat = np.frombuffer(data, np.uint8, count=16 * count, offset=16 * dictionary.offset)
    return flat.reshape(count, 16)


def scoped(nodes: I64, hashes: U64) -> U64:
    """Return keys that differ between nodes."""
    return combine(nodes.astype(np.uint64), hashes)
