"""Packets of a chunk summed per flow and second.

A **segment** is what one flow did within one second and one chunk, from one connection attempt to the
next: a SYN after a FIN or RST begins a segment, so that a reused port becomes a flow of its own. All
sums are per direction, so that segments can be added in any chunking with the same result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exporter.chunks import I64, U8
from exporter.gather import U64
from exporter.network_layer import Bool
from exporter.packets import ACK, FIN, RST, SYN, TCP, Packets

# Facts about packets of one direction, ORed above the eight flag bits.
PLAIN_ACK = 1 << 8  # ACK without SYN or RST
NOT_RST = 1 << 9
SYN_ACK = 1 << 10

_FACTS = np.zeros(256, np.uint16)
for _flags in range(256):
    _facts = _flags | (0 if _flags & RST else NOT_RST)
    _facts |= PLAIN_ACK if _flags & ACK and not _flags & (SYN | RST) else 0
    _facts |= SYN_ACK if _flags & SYN and _flags & ACK else 0
    _FACTS[_flags] = _facts
_PURE_SYN = np.array([flags & (SYN | ACK | RST) == SYN for flags in range(256)])
_CLOSER = np.array([bool(flags & (FIN | RST)) and not flags & SYN for flags in range(256)])

# Columns of ``Segments.sums``.
PACKETS, BYTES, PAYLOAD, SYNS, SYN_ACKS, FINS, RSTS = range(7)


@dataclass(frozen=True)
class Segments:
    """Shape (s,), ordered by first packet. Direction 0 travels from the smaller endpoint.

    Attributes:
        of: int64 (n,), the segment of each packet.
        backward: bool (n,), the direction of each packet.
        key: uint64, flow.
        cut: int64, the second's end.
        turn: int64, how many segments of this flow and second come before it.
        first: int64, position of the first packet in ``Packets``.
        first_backward: bool, direction of that packet.
        opens: bool, that packet is a SYN without ACK.
        start, end: int64, earliest and latest time, ns.
        sums: int64 (s, 2, 7), per direction: packets, IP bytes, payload bytes, SYN, SYN-ACK, FIN, RST.
        facts: uint16 (s, 2), OR of TCP flags and the facts above.
        ttl_min, ttl_max: uint8 (s, 2); 255 and 0 where a direction has no packet.
        payload_first: int64, position of the first packet with payload; -1 without one.
    """

    of: I64
    backward: Bool
    key: U64
    cut: I64
    turn: I64
    first: I64
    first_backward: Bool
    opens: Bool
    start: I64
    end: I64
    sums: I64
    facts: np.ndarray[tuple[int, int], np.dtype[np.uint16]]
    ttl_min: U8
    ttl_max: U8
    payload_first: I64


def group(packets: Packets, keys: U64, backward: Bool, cuts: I64, most_turns: int) -> Segments:
    """Sum packets into segments.

    Args:
        packets: columns, shape (n,), n > 0.
        keys: uint64 (n,), flow of each packet.
        backward: bool (n,), direction of each packet.
        cuts: int64 (n,), ascending.
        most_turns: segments of one flow and second; later ones add to the last.
    """
    order = _stable_order(keys)
    starts, turn = _boundaries(packets, keys[order], cuts[order], order, most_turns)
    of_sorted = np.zeros(len(order), np.int64)
    of_sorted[starts[1:]] = 1
    segment = np.empty(len(order), np.int64)
    segment[order] = np.cumsum(of_sorted)
    by_first = np.argsort(order[starts])
    rank = np.empty(len(starts), np.int64)
    rank[by_first] = np.arange(len(starts))
    segment = rank[segment]
    first = order[starts][by_first]
    times = packets.times[order]
    return Segments(
        of=segment, backward=backward, key=keys[first], cut=cuts[first], turn=turn[by_first], first=first,
        first_backward=backward[first],
        opens=_PURE_SYN[packets.flags[first]] & (packets.net.proto[first] == TCP),
        start=np.minimum.reduceat(times, starts)[by_first], end=np.maximum.reduceat(times, starts)[by_first],
        **_sums(packets, segment, backward, len(starts)),
    )  # fmt: skip


def _stable_order(keys: U64) -> I64:
    """Return positions that bring equal keys together, each in order of arrival."""
    count = len(keys)
    bits = np.uint64(max(1, (count - 1).bit_length()))
    low = np.uint64((1 << int(bits)) - 1)
    packed = np.sort(keys & ~low | np.arange(count, dtype=np.uint64))
    order = (packed & low).astype(np.int64)
    sorted_keys = keys[order]
    same_high = (packed[1:] ^ packed[:-1]) <= low
    # Different keys with equal high bits may be interleaved; rare enough for the slow way.
    if bool((same_high & (sorted_keys[1:] != sorted_keys[:-1])).any()):
        return np.argsort(keys, kind="stable")
    return order


def _boundaries(packets: Packets, keys: U64, cuts: I64, order: I64, most_turns: int) -> tuple[I64, I64]:
    """Return where segments begin in sorted order, and each one's turn."""
    new = np.ones(len(order), np.bool_)
    new[1:] = (keys[1:] != keys[:-1]) | (cuts[1:] != cuts[:-1])
    syn_anywhere = _PURE_SYN[packets.flags]
    if not syn_anywhere.any():
        starts = np.flatnonzero(new)
        return starts, np.zeros(len(starts), np.int64)
    groups = np.cumsum(new) - 1
    group_starts = np.flatnonzero(new)
    closers = np.cumsum(_CLOSER[packets.flags[order]])
    before = closers - _CLOSER[packets.flags[order]]
    syns = np.flatnonzero(syn_anywhere[order])
    mine = groups[syns]
    repeat = np.zeros(len(syns), np.bool_)
    repeat[1:] = mine[1:] == mine[:-1]
    reference = before[group_starts[mine]]
    reference[1:][repeat[1:]] = before[syns[:-1]][repeat[1:]]
    # A SYN after a FIN or RST is another connection. The first SYN behind other packets may be one:
    # that depends on what the flow was before, so it gets a segment of its own and the table decides.
    breaks = syns[(before[syns] > reference) | (~repeat & (syns != group_starts[mine]))]
    begins = new.copy()
    begins[breaks] = True
    starts = np.flatnonzero(begins)
    turn = np.arange(len(starts)) - np.searchsorted(starts, group_starts)[groups[starts]]
    kept = turn < most_turns
    return starts[kept], turn[kept]


def _sums(packets: Packets, segment: I64, backward: Bool, count: int) -> dict[str, np.ndarray]:
    side = segment * 2 + backward
    sums = np.zeros((2 * count, 7), np.int64)
    sums[:, PACKETS] = np.bincount(side, minlength=2 * count)
    # Weights are summed as float64: exact below 2**53 bytes, far above what a chunk can hold.
    sums[:, BYTES] = np.bincount(side, packets.net.length, 2 * count)
    sums[:, PAYLOAD] = np.bincount(side, packets.payload, 2 * count)
    control = np.flatnonzero(packets.flags & (SYN | FIN | RST))
    if len(control):
        flags, its_side = packets.flags[control], side[control]
        syn, ack = flags & SYN != 0, flags & ACK != 0
        chosen = ((SYNS, syn & ~ack), (SYN_ACKS, syn & ack), (FINS, flags & FIN != 0), (RSTS, flags & RST != 0))
        for column, which in chosen:
            sums[:, column] = np.bincount(its_side[which], minlength=2 * count)
    facts = np.zeros(2 * count, np.uint16)
    np.bitwise_or.at(facts, side, _FACTS[packets.flags])
    ttl = packets.net.ttl.astype(np.uint8)
    ttl_min, ttl_max = np.full(2 * count, 255, np.uint8), np.zeros(2 * count, np.uint8)
    np.minimum.at(ttl_min, side, ttl)
    np.maximum.at(ttl_max, side, ttl)
    with_payload = np.flatnonzero(packets.payload)[::-1]
    payload_first = np.full(count, -1, np.int64)
    # Written from the last to the first: the earliest packet's write stands.
    payload_first[segment[with_payload]] = with_payload
    return {
        "sums": sums.reshape(count, 2, 7), "facts": facts.reshape(count, 2), "ttl_min": ttl_min.reshape(count, 2),
        "ttl_max": ttl_max.reshape(count, 2), "payload_first": payload_first,
    }  # fmt: skip
