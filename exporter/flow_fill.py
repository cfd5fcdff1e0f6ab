"""Segments into the slots of a flow table: beginning flows and adding to them."""

from __future__ import annotations

import numpy as np

from detectors.mixing import combine, mix
from exporter.app_guess import guess
from exporter.chunks import I64
from exporter.flow_groups import BYTES, FINS, PACKETS, PAYLOAD, RSTS, SYN_ACKS, SYNS, Segments
from exporter.flow_origin import Resync, origins
from exporter.flow_state import (
    BURSTS,
    DST_BYTES,
    DST_FIN,
    DST_PACKETS,
    DST_PAYLOAD,
    DST_RST,
    DST_SYNACK,
    GAP_SQUARES,
    GAP_SUM,
    SRC_BYTES,
    SRC_FIN,
    SRC_PACKETS,
    SRC_PAYLOAD,
    SRC_RST,
    SRC_SYN,
    UNDERSTOOD,
    FlowState,
)  # fmt: skip
from exporter.packets import Packets
from exporter.sides import REPORT, Locality
from exporter.tuples import flow_tuples
from schemas.events import PayloadSide

_SECOND = 1_000_000_000
_MILLISECOND = 1_000_000
_FROM_SRC = ((SRC_PACKETS, PACKETS), (SRC_BYTES, BYTES), (SRC_PAYLOAD, PAYLOAD), (SRC_SYN, SYNS), (SRC_FIN, FINS),
             (SRC_RST, RSTS))  # fmt: skip
_FROM_DST = ((DST_PACKETS, PACKETS), (DST_BYTES, BYTES), (DST_PAYLOAD, PAYLOAD), (DST_SYNACK, SYN_ACKS),
             (DST_FIN, FINS), (DST_RST, RSTS))  # fmt: skip
_ENDS = ("src_high", "src_low", "dst_high", "dst_low", "src_port", "dst_port", "icmp_id")
_RESET = ("done", "life_src", "life_dst", "row_cut", "first_payload", "app", "close_cut", "timer", "heads")


def begin_flows(
    state: FlowState, segments: Segments, chosen: I64, slots: I64, packets: Packets, node: np.uint64,
    place: Locality | None, start: Resync,
) -> None:  # fmt: skip
    """Set slots to what the first packets of their flows say; ``node`` tells flow ids of nodes apart."""
    first = segments.first[chosen]
    origin = origins(packets, first, start)
    turned = origin.reversed
    _set_endpoints(state, slots, packets, first, turned)
    state.flip[slots] = segments.first_backward[chosen] ^ turned
    state.bits[slots] = origin.bits
    state.mac[slots] = np.where(turned, np.uint64(0), packets.mac[first])
    times = packets.times[first]
    state.conn_start[slots], state.last[slots] = times, times
    same = state.reopen_cut[slots] == segments.cut[chosen]
    state.reopens[slots] = np.where(same, state.reopens[slots], 0)
    number = state.reopens[slots].astype(np.uint64)
    begun = combine(segments.key[chosen], mix(times.astype(np.uint64)) + number)
    state.flow_id[slots] = combine(begun, np.full(len(slots), node))
    for name in _RESET:
        getattr(state, name)[slots] = 0
    if place is not None:
        proto = state.proto[slots].astype(np.int64)
        columns = {name: getattr(state, name)[slots] for name in _ENDS}
        duty = place.judge(packets.side[first], turned, flow_tuples(columns, proto), proto)
        state.duty[slots] = duty
        # Whoever reports the flow reads its handshakes and heads.
        state.heads[slots] = np.where(duty == REPORT, 0, UNDERSTOOD)
    state.total[slots] = 0
    clear_row(state, slots)


def _set_endpoints(
    state: FlowState, slots: I64, packets: Packets, first: I64, turned: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> None:
    net = packets.net
    for ours, sender, receiver in (
        ("high", net.src_high, net.dst_high), ("low", net.src_low, net.dst_low),
        ("port", packets.src_port, packets.dst_port),
    ):  # fmt: skip
        getattr(state, f"src_{ours}")[slots] = np.where(turned, receiver[first], sender[first])
        getattr(state, f"dst_{ours}")[slots] = np.where(turned, sender[first], receiver[first])
    state.proto[slots], state.vlan[slots] = net.proto[first], packets.vlan[first]
    state.interface[slots] = packets.interface[first]
    state.icmp_type[slots], state.icmp_code[slots] = packets.icmp_type[first], packets.icmp_code[first]
    state.icmp_id[slots] = packets.icmp_id[first]


def clear_row(state: FlowState, slots: I64) -> None:
    """Forget what was gained since the last row."""
    state.delta[slots] = 0
    state.row_src[slots], state.row_dst[slots] = 0, 0
    state.row_start[slots], state.row_end[slots] = np.iinfo(np.int64).max, 0
    state.ttl_min[slots], state.ttl_max[slots] = 255, 0


def add_segments(state: FlowState, segments: Segments, chosen: I64, slots: I64, packets: Packets) -> None:
    """Add segments, given by position, to slots that differ from each other."""
    side = state.flip[slots].astype(np.int64)
    src, dst = segments.sums[chosen, side], segments.sums[chosen, 1 - side]
    gained = np.zeros((len(slots), state.delta.shape[1]), np.int64)
    for target, source in _FROM_SRC:
        gained[:, target] = src[:, source]
    for target, source in _FROM_DST:
        gained[:, target] = dst[:, source]
    # A gap of a second or more never lies inside a segment: that is one second's.
    quiet = packets.times[segments.first[chosen]] - state.last[slots]
    gap = np.where(quiet >= _SECOND, quiet // _MILLISECOND, 0)
    gained[:, BURSTS], gained[:, GAP_SUM], gained[:, GAP_SQUARES] = gap > 0, gap, gap * gap
    state.delta[slots] += gained
    src_facts, dst_facts = segments.facts[chosen, side], segments.facts[chosen, 1 - side]
    state.life_src[slots] |= src_facts
    state.life_dst[slots] |= dst_facts
    state.row_src[slots] |= (src_facts & 255).astype(np.uint8)
    state.row_dst[slots] |= (dst_facts & 255).astype(np.uint8)
    state.ttl_min[slots] = np.minimum(state.ttl_min[slots], segments.ttl_min[chosen, side])
    state.ttl_max[slots] = np.maximum(state.ttl_max[slots], segments.ttl_max[chosen, side])
    state.row_start[slots] = np.minimum(state.row_start[slots], segments.start[chosen])
    state.row_end[slots] = np.maximum(state.row_end[slots], segments.end[chosen])
    state.last[slots] = np.maximum(state.last[slots], segments.end[chosen])
    _first_payload(state, segments.payload_first[chosen], slots, packets)


def _first_payload(state: FlowState, positions: I64, slots: I64, packets: Packets) -> None:
    new = (positions >= 0) & (state.first_payload[slots] == 0)
    if not new.any():
        return
    positions, slots = positions[new], slots[new]
    net = packets.net
    # Told by the sender's endpoint: the segment's direction would need the key's order again.
    by_src = (net.src_low[positions] == state.src_low[slots]) & (net.src_high[positions] == state.src_high[slots])
    by_src &= packets.src_port[positions] == state.src_port[slots]
    state.first_payload[slots] = np.where(by_src, PayloadSide.INITIATOR, PayloadSide.RESPONDER)
    state.app[slots] = guess(packets, positions)
