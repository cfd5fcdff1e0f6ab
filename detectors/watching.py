"""What is still seen of contained attacks, per node and tick: the rows of watch.v1.

Nothing is remembered between ticks: a flow row says from when to when it counts, so what was answered before a
containment began is told apart without knowing the flow.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.assembly import ClosedTick
from detectors.flow_rows import FlowRows
from detectors.frame import ICMP, ICMPV6, SCTP, TCP, UDP, FlowFrame
from detectors.index import I64, positions
from detectors.mixing import U64
from detectors.round_frames import RoundFrames
from schemas.addresses import pack
from schemas.events import Capability
from schemas.identity import IdentityTable
from schemas.watch import Watch, WatchPair, WatchRow

# After its end a containment is watched for as long as its last flows may take to be told.
_LINGER = 60
_NEEDED = int(Capability.PACKETS | Capability.REVERSE)
_PROTOCOLS = {"TCP": (TCP,), "UDP": (UDP,), "SCTP": (SCTP,), "ICMP": (ICMP, ICMPV6)}
_MOST_ADDRESSES = 4096  # whose node is remembered

Mask = npt.NDArray[np.bool_]


class _Prefix(NamedTuple):
    """An address block: the bits that count of the upper and lower half, and their values."""

    masks: tuple[np.uint64, np.uint64]
    bits: tuple[np.uint64, np.uint64]

    def inside(self, halves: U64) -> Mask:
        found: Mask = ((halves[:, 1] & self.masks[1]) == self.bits[1]) & (
            (halves[:, 0] & self.masks[0]) == self.bits[0]
        )
        return found


class _Pair(NamedTuple):
    source: _Prefix
    destination: _Prefix
    spared: tuple[_Prefix, ...]
    protocols: tuple[int, ...]
    port: int | None


class _Target(NamedTuple):
    watch: Watch
    pairs: tuple[_Pair, ...]
    hosts: tuple[str, ...]  # single addresses among its pairs


class Watcher:
    """Counts what matches the active containments in each round of ticks.

    Args:
        identities: who has an address, and on which node.
    """

    def __init__(self, identities: IdentityTable) -> None:
        self._identities = identities
        self._given: tuple[Watch, ...] = ()
        self._targets: tuple[_Target, ...] = ()
        self._places: dict[str, tuple[int, int, str]] = {}  # address → from, to before, node
        self._told = -1  # of the identities when that was found

    def watch(self, watches: tuple[Watch, ...]) -> None:
        """Look for these from now on; each of their pairs costs two comparisons of a round's distinct addresses."""
        if watches is not self._given:
            self._given = watches
            self._targets = tuple(_Target(w, tuple(map(_pair, w.pairs)), _hosts(w.pairs)) for w in watches)

    def observe(self, frames: RoundFrames, closed: Sequence[ClosedTick], cluster: str) -> list[WatchRow]:
        """Return the rows of a round: by tick as they closed, then by containment."""
        if not self._targets:
            return []
        seen = self._count(frames)
        rows = []
        for place, item in enumerate(closed):
            if item.capabilities & _NEEDED != _NEEDED:
                continue  # It could not tell an answered flow from one that is not.
            node = frames.names[item.node]
            for number, target in enumerate(self._targets):
                if item.tick > target.watch.until + _LINGER or item.tick * 10**9 < target.watch.since:
                    continue
                counts = seen.get((number, place))
                if counts is None and not self._is_witness(target, node, item.tick):
                    continue
                rows.append(_row(target.watch, cluster, node, item.tick, counts or (0, 0, 0, 0, 0)))
        return rows

    def _count(self, frames: RoundFrames) -> dict[tuple[int, int], tuple[int, int, int, int, int]]:
        """Return attempts, answered, unsure, last packet and last answered by target and place of the tick."""
        groups, flow = frames.groups, frames.flow
        found: dict[tuple[int, int], tuple[int, int, int, int, int]] = {}
        if groups is None or flow is None:
            return found
        for number, target in enumerate(self._targets):
            rows = _matching(groups, flow, target.pairs)
            if not len(rows):
                continue
            place = groups.columns.place[rows]
            for own in np.unique(place).tolist():
                counts = _counts(flow, rows[place == own], target.watch.since)
                if counts[0]:
                    found[number, own] = counts
        return found

    def _is_witness(self, target: _Target, node: str, tick: int) -> bool:
        return any(self._node_of(ip, tick) == node for ip in target.hosts)

    def _node_of(self, ip: str, tick: int) -> str:
        if self._identities.told != self._told or len(self._places) > _MOST_ADDRESSES:
            self._told = self._identities.told
            self._places.clear()
        known = self._places.get(ip)
        if known is None or not known[0] <= tick < known[1]:
            item = self._identities.find(ip, tick)
            known = self._places[ip] = (*self._identities.span(ip, tick), item.node if item is not None else "")
        return known[2]


def _matching(groups: FlowFrame, flow: FlowRows, pairs: Sequence[_Pair]) -> I64:
    """Return the rows that match any of some pairs and that no other node reports as well."""
    chosen: Mask | None = None
    for pair in pairs:
        source, destination = pair.source.inside(groups.halves), pair.destination.inside(groups.halves)
        if not source.any() or not destination.any():
            continue
        for spared in pair.spared:
            left_out = spared.inside(groups.halves)
            source, destination = source & ~left_out, destination & ~left_out
        matches = source[groups.row_src] & destination[groups.row_dst] & flow.own
        if pair.protocols:
            matches &= np.isin(flow.proto, pair.protocols)
        if pair.port is not None:
            matches &= flow.dst_port == pair.port
        chosen = matches if chosen is None else chosen | matches
    return positions(chosen) if chosen is not None else np.zeros(0, np.int64)


def _counts(flow: FlowRows, rows: I64, since: int) -> tuple[int, int, int, int, int]:
    asked, replied = flow.numbers("src_packets")[rows] > 0, flow.numbers("dst_packets")[rows] > 0
    start, end = flow.numbers("start")[rows], flow.numbers("end")[rows]
    # What is sent without an answer is tried again by either side: only both together are a conversation.
    both = asked & replied
    attempts = (asked | replied) & (end >= since)
    answered, unsure = both & (start >= since), both & (start < since) & (end >= since)
    return (
        int(attempts.sum()), int(answered.sum()), int(unsure.sum()),
        int(end[attempts].max(initial=0)), int(end[answered].max(initial=0)),
    )  # fmt: skip


def _row(watch: Watch, cluster: str, node: str, tick: int, counts: tuple[int, int, int, int, int]) -> WatchRow:
    attempts, answered, unsure, last_packet, last_answered = counts
    return WatchRow(
        cluster=cluster, response_id=watch.response_id, node=node, tick=tick, attempts=attempts, answered=answered,
        unsure=unsure, last_packet=last_packet, last_answered=last_answered,
    )  # fmt: skip


def _pair(pair: WatchPair) -> _Pair:
    protocols = _PROTOCOLS[pair.protocol] if pair.protocol is not None else ()
    spared = tuple(map(_prefix, pair.spared))
    return _Pair(_prefix(pair.source), _prefix(pair.destination), spared, protocols, pair.port)


def _prefix(cidr: str) -> _Prefix:
    network = ipaddress.ip_network(cidr, strict=False)
    length = network.prefixlen + (96 if network.version == 4 else 0)
    ones = ((1 << length) - 1) << (128 - length)
    bits = int.from_bytes(pack(str(network.network_address))) & ones
    low = (1 << 64) - 1
    return _Prefix((np.uint64(ones >> 64), np.uint64(ones & low)), (np.uint64(bits >> 64), np.uint64(bits & low)))


def _hosts(pairs: Sequence[WatchPair]) -> tuple[str, ...]:
    networks = [ipaddress.ip_network(text, strict=False) for p in pairs for text in (p.source, p.destination)]
    return tuple(dict.fromkeys(str(n.network_address) for n in networks if n.num_addresses == 1))
