"""ICMP messages that say where traffic should go: redirects, router advertisements, neighbour discovery.

Forms: RFC 792 (redirect, type 5), RFC 4861 section 4 (types 134 to 137). Hosts ignore neighbour discovery
whose hop limit is not 255 (RFC 4861 section 6.1), so such packets claim nothing here either.
"""

from __future__ import annotations

import numpy as np

from exporter.chunks import I64, U8, PacketChunk
from exporter.gather import U64, structs_at, u64_at
from exporter.link_block import MAPPED, LinkBlock, frame_columns
from exporter.link_layer import Frames
from exporter.network_layer import Bool
from exporter.packets import ICMP, ICMP6, Packets
from schemas.events import LinkClaim

_REDIRECT4 = 5
_ADVERTISED_ROUTER, _SOLICITED, _ADVERTISED, _REDIRECT6 = 134, 135, 136, 137
_SOURCE_MAC, _TARGET_MAC = 1, 2
_CLAIMS = {
    _ADVERTISED_ROUTER: LinkClaim.ROUTER_ADVERTISEMENT, _SOLICITED: LinkClaim.NEIGHBOUR_SOLICITATION,
    _ADVERTISED: LinkClaim.NEIGHBOUR_ADVERTISEMENT, _REDIRECT6: LinkClaim.ICMP_REDIRECT,
}  # fmt: skip
# Bytes before the options, counted from the eighth byte of the ICMP message, where ``payload_at`` stands.
_FIXED = {_ADVERTISED_ROUTER: 8, _SOLICITED: 16, _ADVERTISED: 16, _REDIRECT6: 32}
# A message's own address option; redirects name the gateway's.
_MAC_OPTION = {_ADVERTISED_ROUTER: _SOURCE_MAC, _SOLICITED: _SOURCE_MAC, _ADVERTISED: _TARGET_MAC,
               _REDIRECT6: _TARGET_MAC}  # fmt: skip
# Real messages carry at most a handful; a MAC behind more is not looked for.
_MAX_OPTIONS = 16
_U32 = np.dtype(">u4")


def read_icmp(chunk: PacketChunk, frames: Frames, packets: Packets) -> tuple[LinkBlock, I64]:
    """Return link columns of ICMP claims, and the chunk positions of messages too short to say what they are."""
    net = packets.net
    proto, kind = net.proto, packets.icmp_type
    typed = np.flatnonzero(kind >= _REDIRECT4)
    mine, said = proto[typed], kind[typed]
    six = (mine == ICMP6) & (said >= _ADVERTISED_ROUTER) & (said <= _REDIRECT6) & (net.ttl[typed] == 255)
    six &= packets.icmp_code[typed] == 0
    chosen = typed[((mine == ICMP) & (said == _REDIRECT4) | six) & ~net.later[typed]]
    if not len(chosen):
        return frame_columns(chunk, frames, chosen), chosen
    size, captured = packets.payload[chosen], packets.payload_captured[chosen]
    # A redirect quotes the packet's IP header.
    needed = np.where(proto[chosen] == ICMP, 20, 0)
    for number, fixed in _FIXED.items():
        needed[(proto[chosen] == ICMP6) & (kind[chosen] == number)] = fixed
    bad, whole = chosen[size < needed], chosen[captured >= needed]
    rows = frame_columns(chunk, frames, packets.index[whole])
    rows["speaker_high"][:], rows["speaker_low"][:] = net.src_high[whole], net.src_low[whole]
    _redirects4(packets, whole, rows)
    for number in _CLAIMS:
        of = np.flatnonzero((proto[whole] == ICMP6) & (kind[whole] == number))
        if len(of):
            _neighbour_rows(packets, whole[of], of, number, rows)
    return rows, packets.index[bad]


def _redirects4(packets: Packets, whole: I64, rows: LinkBlock) -> None:
    of = np.flatnonzero(packets.net.proto[whole] == ICMP)
    at = packets.payload_at[whole[of]]
    rows["claim"][of] = LinkClaim.ICMP_REDIRECT
    # The gateway stands before the quoted header, whose last four bytes are the destination.
    rows["target_low"][of] = structs_at(packets.buffer, at - 4, _U32).astype(np.uint64) | MAPPED
    rows["claimed_low"][of] = structs_at(packets.buffer, at + 16, _U32).astype(np.uint64) | MAPPED


def _neighbour_rows(packets: Packets, positions: I64, of: I64, kind: int, rows: LinkBlock) -> None:
    net, buffer, at = packets.net, packets.buffer, packets.payload_at[positions]
    rows["claim"][of] = _CLAIMS[kind]
    source = net.src_high[positions], net.src_low[positions]
    named = u64_at(buffer, at), u64_at(buffer, at + 8)
    if kind == _ADVERTISED_ROUTER:
        claimed, target = source, None
        # The lifetime is the last half of the word before the reachable time.
        rows["number"][of] = structs_at(buffer, at - 4, _U32) & 0xFFFF
    elif kind == _SOLICITED:
        claimed, target = source, named
    elif kind == _ADVERTISED:
        claimed, target = named, (net.dst_high[positions], net.dst_low[positions])
    else:
        claimed, target = (u64_at(buffer, at + 16), u64_at(buffer, at + 24)), named
    rows["claimed_high"][of], rows["claimed_low"][of] = claimed
    if target is not None:
        rows["target_high"][of], rows["target_low"][of] = target
    ends = at + packets.payload_captured[positions]
    rows["claimed_mac"][of] = _option_mac(buffer, at + _FIXED[kind], ends, _MAC_OPTION[kind])


def _option_mac(buffer: U8, at: I64, ends: I64, wanted: int) -> U64:
    """Return the link-layer address in the first option of a kind; 0 without one. Options count in 8 bytes."""
    found = np.zeros(len(at), np.uint64)
    at, open_ = at.copy(), np.ones(len(at), np.bool_)
    for _ in range(_MAX_OPTIONS):
        open_ &= at + 8 <= ends
        rows = np.flatnonzero(open_)
        if not len(rows):
            break
        word = u64_at(buffer, at[rows])
        units = (word >> np.uint64(48)).astype(np.int64) & 255
        hit: Bool = (word >> np.uint64(56) == wanted) & (units == 1)
        found[rows[hit]] = word[hit] & np.uint64((1 << 48) - 1)
        # A length of 0 makes hosts drop the message (RFC 4861 section 4.6).
        open_[rows[hit | (units == 0)]] = False
        at[rows] += units * 8
    return found
