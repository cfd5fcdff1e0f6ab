"""IPv4 and IPv6 headers with extension headers and fragments, as columns.

Lengths come from the IP headers, so frames that the capture cut short still count whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exporter.chunks import I64, U8
from exporter.gather import U64, structs_at

Bool = npt.NDArray[np.bool_]

_V4 = np.dtype([
    ("first", "u1"), ("tos", "u1"), ("length", ">u2"), ("id", ">u2"), ("fragment", ">u2"), ("ttl", "u1"),
    ("proto", "u1"), ("checksum", ">u2"), ("src", ">u4"), ("dst", ">u4"),
])  # fmt: skip
_V6 = np.dtype([
    ("first", "u1"), ("rest", "V3"), ("length", ">u2"), ("next", "u1"), ("hops", "u1"),
    ("src_high", ">u8"), ("src_low", ">u8"), ("dst_high", ">u8"), ("dst_low", ">u8"),
])  # fmt: skip
_EXTENSION = np.dtype([("next", "u1"), ("length", "u1"), ("offset", ">u2")])
_MAPPED = np.uint64(0xFFFF << 32)

HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION, MOBILITY = 0, 43, 44, 51, 60, 135
_EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION, MOBILITY)
_IS_EXTENSION = np.zeros(256, np.bool_)
_IS_EXTENSION[list(_EXTENSIONS)] = True
_IS_EXTENSION_V4 = np.zeros(256, np.bool_)
_IS_EXTENSION_V4[AUTHENTICATION] = True
# More headers in a row are an evasion, not traffic: such packets count as malformed.
_MAX_EXTENSIONS = 12


@dataclass
class Networks:
    """Columns over packets, shape (n,).

    Attributes:
        src_high, src_low, dst_high, dst_low: uint64, addresses as two big-endian halves, IPv4 mapped.
        length: int64, IP bytes with the header.
        transport: int64, offset of what follows the IP headers in the buffer.
        proto: int64, IP protocol after extension headers.
        ttl: int64, TTL or hop limit.
        later: bool, a fragment that is not the first: it has no ports.
        version: int64, 4 or 6.
        good: bool, the header is whole and its lengths agree.
    """

    src_high: U64
    src_low: U64
    dst_high: U64
    dst_low: U64
    length: I64
    transport: I64
    proto: I64
    ttl: I64
    later: Bool
    version: I64
    good: Bool


def read_networks(buffer: U8, at: I64, captured_end: I64, wire_end: I64, is_v6: Bool) -> Networks:
    """Read IP headers.

    Args:
        buffer: uint8 bytes with padding.
        at: int64 (n,), offset of each IP header.
        captured_end: int64 (n,), where the captured bytes of the packet end.
        wire_end: int64 (n,), where the packet would end had all of it been captured.
        is_v6: bool (n,), which header is expected.
    """
    if not is_v6.any():
        return _read_v4(buffer, at, captured_end, wire_end)
    if is_v6.all():
        return _read_v6(buffer, at, captured_end, wire_end)
    four, six = np.flatnonzero(~is_v6), np.flatnonzero(is_v6)
    old = _read_v4(buffer, at[four], captured_end[four], wire_end[four])
    new = _read_v6(buffer, at[six], captured_end[six], wire_end[six])
    back = np.argsort(np.concatenate([four, six]), kind="stable")
    return Networks(**{name: np.concatenate([getattr(old, name), getattr(new, name)])[back] for name in _FIELDS})


_FIELDS = tuple(Networks.__dataclass_fields__)


def _read_v4(buffer: U8, at: I64, captured_end: I64, wire_end: I64) -> Networks:
    heads = structs_at(buffer, at, _V4)
    size = (heads["first"] & 15).astype(np.int64) * 4
    stated = heads["length"].astype(np.int64)
    # Length 0 is what segmentation offload leaves in captures on the sending host.
    length = np.where(stated == 0, wire_end - at, stated)
    good = (heads["first"] >> 4 == 4) & (size >= 20) & (length >= size)
    good &= (at + size <= captured_end) & (at + length <= wire_end)
    zeros = np.zeros(len(at), np.uint64)
    found = Networks(
        zeros, heads["src"].astype(np.uint64) | _MAPPED, zeros, heads["dst"].astype(np.uint64) | _MAPPED, length,
        at + size, heads["proto"].astype(np.int64), heads["ttl"].astype(np.int64),
        (heads["fragment"] & 0x1FFF) != 0, np.full(len(at), 4, np.int64), good,
    )  # fmt: skip
    _skip_extensions(buffer, found, captured_end, _IS_EXTENSION_V4)
    return found


def _read_v6(buffer: U8, at: I64, captured_end: I64, wire_end: I64) -> Networks:
    heads = structs_at(buffer, at, _V6)
    stated = heads["length"].astype(np.int64) + 40
    # A payload length of 0 is a jumbogram or segmentation offload.
    length = np.where(stated == 40, wire_end - at, stated)
    good = (heads["first"] >> 4 == 6) & (at + 40 <= captured_end) & (at + length <= wire_end)
    found = Networks(
        heads["src_high"].astype(np.uint64), heads["src_low"].astype(np.uint64), heads["dst_high"].astype(np.uint64),
        heads["dst_low"].astype(np.uint64), length, at + 40, heads["next"].astype(np.int64),
        heads["hops"].astype(np.int64), np.zeros(len(at), np.bool_), np.full(len(at), 6, np.int64), good,
    )  # fmt: skip
    _skip_extensions(buffer, found, captured_end, _IS_EXTENSION)
    return found


def _skip_extensions(buffer: U8, found: Networks, captured_end: I64, known: Bool) -> None:
    """Step over extension headers (RFC 8200 section 4; AH: RFC 4302 section 2.2) in place."""
    for _ in range(_MAX_EXTENSIONS):
        rows = np.flatnonzero(known[found.proto] & found.good & ~found.later)
        if not len(rows):
            return
        at, kind = found.transport[rows], found.proto[rows]
        inside = at + 8 <= captured_end[rows]
        found.good[rows[~inside]] = False
        heads = structs_at(buffer, np.where(inside, at, 0), _EXTENSION)
        units = heads["length"].astype(np.int64)
        size = np.where(kind == AUTHENTICATION, (units + 2) * 4, (units + 1) * 8)
        size = np.where(kind == FRAGMENT, 8, size)
        found.later[rows] = inside & (kind == FRAGMENT) & ((heads["offset"] >> 3) != 0)
        found.proto[rows] = heads["next"]
        found.transport[rows] = at + size
    found.good[known[found.proto] & ~found.later] = False
