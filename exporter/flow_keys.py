"""Which flow a packet belongs to, and in which direction of it the packet travels.

A key is a seeded 64-bit hash of both endpoints in either order, protocol, VLAN, place of observation and, for
ICMP, the kind of exchange. Two flows of one table sharing a key would be counted as one: for a million flows tracked
at once that happens with a chance of one in 37 million.
"""

from __future__ import annotations

import numpy as np

from detectors.mixing import mix
from exporter.chunks import I64
from exporter.gather import U64
from exporter.network_layer import Bool, Networks
from exporter.packets import ICMP, ICMP6, Packets

# Answer type to the question's type: both are one flow (RFC 792, RFC 950, RFC 4443).
_ASKED = np.tile(np.arange(256, dtype=np.int64), (2, 1))
_ASKED[0, [0, 14, 16, 18]] = [8, 13, 15, 17]
_ASKED[1, 129] = 128
_QUESTION = np.zeros((2, 256), np.bool_)
_QUESTION[0, [8, 13, 15, 17]] = True
_QUESTION[1, 128] = True

_BACKWARD_BIT = np.uint64(1 << 40)
_FORWARD_BIT = np.uint64(1 << 41)


def is_question(proto: I64, icmp_type: I64) -> Bool:
    """Tell which ICMP packets ask for an answer (echo, time stamp, information, mask)."""
    found: Bool = _QUESTION[(proto == ICMP6).astype(np.int64), icmp_type] & _is_icmp(proto)
    return found


def is_answer(proto: I64, icmp_type: I64) -> Bool:
    """Tell which ICMP packets answer such a question."""
    found: Bool = (_ASKED[(proto == ICMP6).astype(np.int64), icmp_type] != icmp_type) & _is_icmp(proto)
    return found


def _is_icmp(proto: I64) -> Bool:
    found: Bool = (proto == ICMP) | (proto == ICMP6)
    return found


def packet_keys(packets: Packets, seed: int) -> tuple[U64, Bool]:
    """Return the flow key of each packet and whether it travels from the greater endpoint."""
    net = packets.net
    extra = place_bits(packets)
    icmp = _is_icmp(net.proto)
    one_way = np.zeros(len(extra), np.bool_)
    if icmp.any():
        asked = _ASKED[(net.proto == ICMP6).astype(np.int64), packets.icmp_type]
        paired = is_question(net.proto, asked)
        one_way = icmp & ~paired & ~net.later
        detail = np.where(paired, packets.icmp_id, packets.icmp_code) | asked << 16
        extra = extra ^ np.where(icmp & ~net.later, detail, 0).astype(np.uint64) << np.uint64(32)
    if net.later.any():
        extra = extra ^ (net.later.astype(np.uint64) << np.uint64(31))
    return endpoint_keys(net, packets.src_port, packets.dst_port, extra, one_way, seed)


def place_bits(packets: Packets) -> U64:
    """Return what tells the same endpoints apart by where they were seen: VLAN and place of observation."""
    bits: U64 = packets.vlan.astype(np.uint64) << np.uint64(8)
    # Mixed, because small numbers would meet those of ICMP kinds.
    return bits ^ mix(packets.point.astype(np.uint64)) if packets.point.any() else bits


def endpoint_keys(
    net: Networks, src_port: I64, dst_port: I64, extra: U64, one_way: Bool, seed: int
) -> tuple[U64, Bool]:
    """Return keys and directions from endpoints.

    Args:
        net: addresses and protocol, shape (n,).
        src_port: int64 (n,).
        dst_port: int64 (n,).
        extra: uint64 (n,), what else tells flows apart; the lowest 8 bits are free.
        one_way: bool (n,), where the two directions are different flows.
        seed: changes every key.
    """
    start = np.uint64(seed)
    source = mix(net.src_low ^ mix(net.src_high ^ start ^ src_port.astype(np.uint64)))
    target = mix(net.dst_low ^ mix(net.dst_high ^ start ^ dst_port.astype(np.uint64)))
    backward = source > target
    last = extra ^ net.proto.astype(np.uint64)
    if one_way.any():
        last = last ^ np.where(one_way, np.where(backward, _BACKWARD_BIT, _FORWARD_BIT), np.uint64(0))
    keys = mix(np.minimum(source, target) ^ mix(np.maximum(source, target) ^ mix(last)))
    return keys, backward
