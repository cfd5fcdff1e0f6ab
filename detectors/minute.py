"""Sixty seconds of each address, per node: the rows that the models learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from detectors.dns_frame import DnsFrame
from detectors.frame import FlowFrame, scoped
from detectors.grouping import Grouping
from detectors.index import I64, positions
from detectors.kernels import minutes as kernel
from detectors.mixing import U64, hash_addresses
from detectors.slots import Slots
from schemas.identity import IdentityTable

Array = npt.NDArray[Any]

SUMS = (
    "flows_out", "flows_in", "bytes_out", "bytes_in", "packets_out", "packets_in", "failed_out", "dns_queries",
    "dns_failures",
)  # fmt: skip
SECONDS = 60

_PEERS = kernel.SUMS + len(SUMS)
_PORTS = _PEERS + 1
_WIDTH = _PORTS + 1
_MARGIN = 4  # addresses gathered per address reported: the busiest are known only when the minute is over
_ADDRESSES = 1 << 19  # gathered on all nodes together, about 70 MB; shared out when a node's minute begins
_ROWS = 1 << 20  # set aside for them: while nodes are joining, the shares of the first are larger
_PAIRS = 1 << 21  # (address, peer) and (address, port) pairs counted per minute on all nodes together
_LATE_MINUTES = 10  # by which a node may be behind before its pairs are forgotten (and then counted again)

_AS_SOURCE = (("flows_out", "opened"), ("bytes_out", "src_bytes"), ("bytes_in", "dst_bytes"),
              ("packets_out", "src_packets"), ("packets_in", "dst_packets"), ("failed_out", "failed"))  # fmt: skip
_AS_RESPONDER = (("flows_in", "opened"), ("bytes_out", "dst_bytes"), ("bytes_in", "src_bytes"),
                 ("packets_out", "dst_packets"), ("packets_in", "src_packets"))  # fmt: skip
_AS_CLIENT = (("dns_queries", "queries"), ("dns_failures", "failures"))


@dataclass(frozen=True)
class MinuteRows:
    """Rows of one node's minute, ordered by address."""

    node: int
    minute: int
    address: npt.NDArray[np.uint8]  # (n, 16)
    sums: I64  # (n, len(SUMS))
    peers_out: I64
    ports_out: I64
    left_out: int


class _Seen:
    """The pairs of one minute."""

    def __init__(self, pairs: U64) -> None:
        self.held = len(pairs)
        self.cells: U64 = np.zeros(0, np.uint64)
        self._build(pairs, self.held)

    def pairs(self) -> U64:
        pairs: U64 = self.cells[self.cells != 0]
        return pairs

    def make_room(self, more: int) -> None:
        needed = min(_PAIRS, self.held + more)
        if 2 * needed > len(self.cells):
            self._build(self.pairs(), needed)

    def _build(self, pairs: U64, needed: int) -> None:
        self.cells = np.zeros(1 << max(10, (4 * needed - 1).bit_length()), np.uint64)
        kernel.refill(self.cells, pairs)


class MinuteBook:
    """Gathers ticks and gives a node's rows when its clock passes the minute."""

    state_version: ClassVar[int] = 2

    def __init__(self, most: int, identities: IdentityTable, seed: int) -> None:
        self._most = most
        self._identities = identities
        self._seed = seed
        self._named: U64 = np.zeros(0, np.uint64)
        self._named_at = 0  # changes of the named addresses when that was taken
        self._minute: dict[int, int] = {}
        self._table = Slots(_ROWS, _WIDTH)
        self._nodes: I64 = np.zeros((1, 4), np.int64)
        self._seen: dict[int, _Seen] = {}
        self._collected = False

    def close(self, node: int, tick: int) -> MinuteRows | None:
        """Tell that a node reached a tick; returns the rows of the minute that this ends, if any.

        A tick is the end of its second, so tick 60 belongs to the minute that ends at 60.
        """
        minute = -(-tick // SECONDS) * SECONDS
        before = self._minute.get(node, minute)
        self._minute[node] = minute
        if node >= len(self._nodes):
            self._nodes = np.concatenate([self._nodes, np.zeros((node + 1, 4), np.int64)])
        if not self._nodes[node, kernel.LIMIT]:
            self._share(node)
        if minute <= before:
            return None
        # A minute that no node is in any more, or that only one far behind is in.
        oldest = max(min(self._minute.values()), max(self._minute.values()) - _LATE_MINUTES * SECONDS)
        self._seen = {m: seen for m, seen in self._seen.items() if m >= oldest}
        rows = self._rows(node, before) if self._nodes[node, 1] else None
        self._share(node)
        return rows

    def _share(self, node: int) -> None:
        self._nodes[node, kernel.LIMIT] = min(_MARGIN * self._most, _ADDRESSES // len(self._minute))

    def add_flows(self, frame: FlowFrame, ours: npt.NDArray[np.bool_]) -> None:
        """Add a frame's groups; copies are another node's to report. ``ours``: what `are_ours` says of it."""
        members = positions(~frame.copy)
        for ends, names in ((frame.src, _AS_SOURCE), (frame.dst, _AS_RESPONDER)):
            own = members[ours[ends[members]]]
            self._gather(frame, Grouping.of_ticks(own, frame.place, ends, len(frame.hashes)), ends, names)
        opening = members[(frame.opened[members] > 0) & ours[frame.src[members]]]
        keys = scoped(frame.node[opening], frame.hashes[frame.src[opening]])
        peers, ports = frame.hashes[frame.dst[opening]], frame.service[opening].astype(np.uint64)
        slots = kernel.places_of(self._table.cells, self._table.rows, keys.view(np.int64))
        minutes = -(-frame.columns.by_place("tick") // SECONDS) * SECONDS
        of_group = minutes[frame.place[opening]]
        for minute in np.unique(minutes).tolist():
            chosen = of_group == minute
            for column, elements in ((_PEERS, peers), (_PORTS, ports)):
                self._count(minute, slots[chosen], keys[chosen], elements[chosen], column)

    def _count(self, minute: int, slots: I64, keys: U64, elements: U64, column: int) -> None:
        seen = self._seen.get(minute)
        if seen is None:
            seen = self._seen[minute] = _Seen(np.zeros(0, np.uint64))
        seen.make_room(len(keys))
        seen.held = kernel.count_pairs(
            seen.cells, self._table.rows, _PAIRS, seen.held, slots, keys.view(np.int64), elements, column
        )

    def add_dns(self, frame: DnsFrame) -> None:
        """Add a frame's queries to their clients."""
        ours = self.are_ours(frame)
        own = frame.subjects[ours[frame.client[frame.subjects]]]
        clients = Grouping.of_ticks(own, frame.place, frame.client, len(frame.hashes))
        self._gather(frame, clients, frame.client, _AS_CLIENT)

    def _gather(self, frame: FlowFrame | DnsFrame, grouping: Grouping, ends: Array,
                names: tuple[tuple[str, str], ...]) -> None:  # fmt: skip
        columns = np.array([kernel.SUMS + SUMS.index(name) for name, _ in names])
        sums = np.stack([grouping.total(frame.measure(measure)) for _, measure in names])
        ids, nodes = ends[grouping.first], frame.node[grouping.first]
        table = self._table
        if self._collected:
            table.rebuild()
            self._collected = False
        table.make_room(len(ids))
        kernel.gather(
            table.cells, table.rows, table.free, table.state, self._nodes, table.capacity, nodes,
            scoped(nodes, frame.hashes[ids]).view(np.int64), frame.addresses.view(np.int64)[ids], columns, sums,
        )  # fmt: skip

    def _rows(self, node: int, minute: int) -> MinuteRows:
        refused = int(self._nodes[node, 2])
        table = self._table
        rows = kernel.collect(table.rows, table.free, table.state, self._nodes, node)
        self._collected = True
        sums = rows[:, kernel.SUMS : _PEERS]
        # A sender that was never answered is noise of its victim (a spoofed source), not a workload.
        kept = positions((sums[:, SUMS.index("bytes_out")] > 0) & (sums[:, SUMS.index("bytes_in")] > 0))
        left_out = max(0, len(kept) - self._most)
        if left_out:
            volume = sums[kept, SUMS.index("packets_out")] + sums[kept, SUMS.index("packets_in")]
            kept = kept[np.lexsort((rows[kept, 0], -volume))[: self._most]]
        address = rows[:, kernel.ADDRESS : kernel.SUMS].copy().view(np.uint8)
        big = address.view(">u8")
        order = kept[np.lexsort((big[kept, 1], big[kept, 0]))]
        return MinuteRows(node, minute, address[order], sums[order], rows[order, _PEERS], rows[order, _PORTS],
                          left_out + refused)  # fmt: skip

    def are_ours(self, frame: FlowFrame | DnsFrame) -> npt.NDArray[np.bool_]:
        """Tell which addresses may be workloads: private ones, and those that the inventory names."""
        named = self._identities.public_addresses
        if self._identities.public_changes != self._named_at:
            self._named_at = self._identities.public_changes
            packed = np.frombuffer(b"".join(sorted(named)), np.uint8).reshape(-1, 16)
            self._named = hash_addresses(packed, self._seed)
        return frame.private | np.isin(frame.hashes, self._named) if len(named) else frame.private

    def snapshot(self) -> dict[str, Any]:
        """Return what is gathered so far."""
        return {
            "minutes": np.array(sorted(self._minute.items()), np.int64).reshape(-1, 2),
            "table": self._table.snapshot(),
            "nodes": self._nodes,
            "seen": {str(m): np.sort(seen.pairs()) for m, seen in sorted(self._seen.items())},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take in what ``snapshot`` gave.

        Raises:
            ValueError: it is damaged.
        """
        rows, nodes = np.array(state["table"]["rows"]), np.array(state["nodes"])
        inside = (rows[:, kernel.NODE] < len(nodes)) & (rows[:, kernel.NODE] >= 0)
        chained = (rows[:, kernel.NEXT] >= 0) & (rows[:, kernel.NEXT] <= len(rows))
        if not (inside & chained).all() or (nodes[:, 0] < 0).any() or (nodes[:, 0] > len(rows)).any():
            problem = "the rows of a minute do not fit their nodes"
            raise ValueError(problem)
        self._table.restore(state["table"], rows)
        self._minute = {int(n): int(m) for n, m in state["minutes"]}
        self._nodes, self._collected = nodes, False
        self._seen = {int(m): _Seen(np.array(pairs, np.uint64)) for m, pairs in state["seen"].items()}
