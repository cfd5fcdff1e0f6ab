"""Sixty seconds of each address, per node: the rows that the models learn from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from detectors.dns_frame import DnsFrame
from detectors.frame import FlowFrame, Grouping
from detectors.hashing import U64, combine
from detectors.index import I64, positions
from schemas.addresses import unpack
from schemas.identity import IdentityTable

SUMS = (
    "flows_out", "flows_in", "bytes_out", "bytes_in", "packets_out", "packets_in", "failed_out", "dns_queries",
    "dns_failures",
)  # fmt: skip
SECONDS = 60

# Fold what was gathered so far whenever it exceeds this many entries; a flood of sources costs time, not memory.
_FOLD = 200_000


@dataclass
class _Gathered:
    """Entries of one node's minute: sums by address; (address, peer) and (address, port) pairs with owners."""

    address: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    owner: list[U64] = field(default_factory=list)
    sums: list[I64] = field(default_factory=list)
    pairs: dict[str, list[tuple[U64, U64]]] = field(default_factory=lambda: {"peer": [], "port": []})
    entries: int = 0


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


class MinuteBook:
    """Gathers ticks and gives a node's rows when its clock passes the minute."""

    state_version: ClassVar[int] = 1

    def __init__(self, most: int, identities: IdentityTable) -> None:
        self._most = most
        self._identities = identities
        self._minute: dict[int, int] = {}
        self._gathered: dict[int, _Gathered] = {}

    def close(self, node: int, tick: int) -> MinuteRows | None:
        """Tell that a node reached a tick; returns the rows of the minute that this ends, if any.

        A tick is the end of its second, so tick 60 belongs to the minute that ends at 60.
        """
        minute = -(-tick // SECONDS) * SECONDS
        before = self._minute.get(node, minute)
        self._minute[node] = minute
        if minute <= before or node not in self._gathered:
            return None
        return self._rows(node, before, self._gathered.pop(node))

    def add_flows(self, frame: FlowFrame) -> None:
        """Add a frame's groups; copies are another node's to report."""
        members = positions(~frame.copy)
        self._add_sources(frame, members)
        grouping = Grouping(members, [frame.node, frame.dst])
        sums = np.zeros((len(grouping), len(SUMS)), np.int64)
        for name, values in (("flows_in", frame.opened), ("bytes_out", frame.dst_bytes), ("bytes_in", frame.src_bytes),
                             ("packets_out", frame.dst_packets), ("packets_in", frame.src_packets)):  # fmt: skip
            sums[:, SUMS.index(name)] = grouping.total(values)
        self._gather(frame.node[grouping.first], frame.hashes, frame.addresses, frame.dst[grouping.first], sums)

    def _add_sources(self, frame: FlowFrame, members: I64) -> None:
        grouping = Grouping(members, [frame.node, frame.src], ordered=True)
        sums = np.zeros((len(grouping), len(SUMS)), np.int64)
        for name, values in (("flows_out", frame.opened), ("bytes_out", frame.src_bytes), ("bytes_in", frame.dst_bytes),
                             ("packets_out", frame.src_packets), ("packets_in", frame.dst_packets),
                             ("failed_out", frame.failed)):  # fmt: skip
            sums[:, SUMS.index(name)] = grouping.total(values)
        self._gather(frame.node[grouping.first], frame.hashes, frame.addresses, frame.src[grouping.first], sums)
        opening = members[frame.opened[members] > 0]
        owner = frame.hashes[frame.src[opening]]
        for kind, element in (("peer", frame.hashes[frame.dst]), ("port", frame.service.astype(np.uint64))):
            pairs = combine(owner, element[opening])
            for node, rows in _by_node(frame.node[opening]):
                self._at(node).pairs[kind].append((pairs[rows], owner[rows]))

    def add_dns(self, frame: DnsFrame) -> None:
        """Add a frame's queries to their clients."""
        grouping = Grouping(frame.subjects, [frame.node, frame.client])
        sums = np.zeros((len(grouping), len(SUMS)), np.int64)
        sums[:, SUMS.index("dns_queries")] = grouping.total(frame.queries)
        sums[:, SUMS.index("dns_failures")] = grouping.total(frame.failures)
        self._gather(frame.node[grouping.first], frame.hashes, frame.addresses, frame.client[grouping.first], sums)

    def _at(self, node: int) -> _Gathered:
        return self._gathered.setdefault(node, _Gathered())

    def _gather(self, nodes: I64, hashes: U64, addresses: npt.NDArray[np.uint8], numbers: I64, sums: I64) -> None:
        for node, rows in _by_node(nodes):
            gathered = self._at(node)
            chosen = numbers[rows]
            gathered.owner.append(hashes[chosen])
            gathered.address.append(addresses[chosen])
            gathered.sums.append(sums[rows])
            gathered.entries += len(chosen)
            if gathered.entries > _FOLD:
                self._fold(gathered)

    @staticmethod
    def _fold(gathered: _Gathered) -> None:
        owner = np.concatenate(gathered.owner)
        distinct, first, number = np.unique(owner, return_index=True, return_inverse=True)
        sums = np.zeros((len(distinct), len(SUMS)), np.int64)
        np.add.at(sums, number, np.concatenate(gathered.sums))
        gathered.address = [np.concatenate(gathered.address)[first]]
        gathered.owner, gathered.sums = [distinct], [sums]
        gathered.entries = 0
        for kind, parts in gathered.pairs.items():
            if parts:
                pairs, first = np.unique(np.concatenate([p for p, _ in parts]), return_index=True)
                gathered.pairs[kind] = [(pairs, np.concatenate([o for _, o in parts])[first])]

    def _rows(self, node: int, minute: int, gathered: _Gathered) -> MinuteRows:
        self._fold(gathered)
        owner, sums, address = gathered.owner[0], gathered.sums[0], gathered.address[0]
        # A sender that was never answered is noise of its victim (a spoofed source), not a workload.
        both = (sums[:, SUMS.index("bytes_out")] > 0) & (sums[:, SUMS.index("bytes_in")] > 0)
        kept = positions(both & self._is_ours(address, minute))
        left_out = max(0, len(kept) - self._most)
        if left_out:
            volume = sums[kept, SUMS.index("packets_out")] + sums[kept, SUMS.index("packets_in")]
            kept = kept[np.lexsort((owner[kept], -volume))[: self._most]]
        counts = {}
        for kind, parts in gathered.pairs.items():
            owners = parts[0][1] if parts else np.zeros(0, np.uint64)
            place = np.searchsorted(owner, owners)
            counts[kind] = np.bincount(place, minlength=len(owner)).astype(np.int64)
        order = kept[np.lexsort(address[kept].T[::-1])] if len(kept) else kept
        return MinuteRows(node, minute, address[order], sums[order], counts["peer"][order], counts["port"][order],
                          left_out)  # fmt: skip

    def _is_ours(self, address: npt.NDArray[np.uint8], at: int) -> npt.NDArray[np.bool_]:
        """Tell which addresses may be workloads: private ones, and those that the inventory names."""
        ours = is_private(address)
        if not len(self._identities):
            return ours
        for row in positions(~ours).tolist():
            ours[row] = self._identities.find(unpack(bytes(address[row])), at) is not None
        return ours

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return what is gathered so far, folded, as arrays."""
        state: dict[str, npt.NDArray[Any]] = {
            "minutes": np.array(sorted(self._minute.items()), np.int64).reshape(-1, 2)
        }
        for node in sorted(self._gathered):
            gathered = self._gathered[node]
            if not gathered.owner:
                continue
            self._fold(gathered)
            state[f"{node}.owner"], state[f"{node}.sums"] = gathered.owner[0], gathered.sums[0]
            state[f"{node}.address"] = gathered.address[0]
            for kind, parts in gathered.pairs.items():
                state[f"{node}.{kind}"] = np.stack(parts[0]) if parts else np.zeros((2, 0), np.uint64)
        return state

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave."""
        self._minute = {int(n): int(m) for n, m in state["minutes"]}
        self._gathered = {}
        for name in state:
            if name.endswith(".owner"):
                node = name.removesuffix(".owner")
                gathered = self._at(int(node))
                gathered.owner, gathered.sums = [state[name]], [state[f"{node}.sums"]]
                gathered.address = [state[f"{node}.address"]]
                for kind in gathered.pairs:
                    pairs, owners = state[f"{node}.{kind}"]
                    gathered.pairs[kind] = [(pairs, owners)]


def is_private(address: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Tell which addresses lie in ranges for private use (RFC 1918, RFC 6598, RFC 4193).

    Args:
        address: uint8, shape (n, 16), IPv4-mapped.
    """
    first, second = address[:, 12], address[:, 13]
    four = (first == 10) | ((first == 172) & (second & 0xF0 == 16)) | ((first == 192) & (second == 168))
    four |= (first == 100) & (second & 0xC0 == 64)
    mapped = (address[:, :10] == 0).all(axis=1) & (address[:, 10:12] == 255).all(axis=1)
    private: npt.NDArray[np.bool_] = np.where(mapped, four, address[:, 0] & 0xFE == 0xFC)
    return private


def _by_node(nodes: I64) -> list[tuple[int, I64]]:
    """Return each node number with its positions; nodes come in runs or mixed."""
    if not len(nodes):
        return []
    if nodes[0] == nodes[-1] and (nodes == nodes[0]).all():
        return [(int(nodes[0]), np.arange(len(nodes)))]
    return [(int(n), positions(nodes == n)) for n in np.unique(nodes)]
