"""The kernel's messages about tracked connections (ctnetlink), many at once and by columns.

A message is a fixed header, the two tuples of the connection, whose layout depends on the family and the protocol
alone, and attributes in any order. So the tuples are read at known places of all messages together, and the
attributes by walking through all messages side by side. Attribute numbers: <linux/netfilter/nfnetlink_conntrack.h>.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from exporter.chunks import I64, U8
from exporter.gather import U64
from exporter.link_block import MAPPED
from exporter.network_layer import Bool
from exporter.tuples import Tuples

NEW, DESTROY = 0, 2  # low byte of the type of messages
SEEN_REPLY, ASSURED, TRANSLATED = 0x2, 0x4, 0x30  # bits of the status
HEADER = 20  # bytes of struct nlmsghdr and struct nfgenmsg
STATUS, _COUNTERS, _REPLY_COUNTERS, _ID = 3, 9, 10, 12
_COUNTED_PACKETS, _COUNTED_BYTES = 1, 2
_TYPE_BITS = 0x3FFF  # of an attribute's type, without the flags
_ATTRIBUTES = 24  # of one message, walked through at most


@dataclass(frozen=True)
class Connections:
    """What messages say, shape (n,).

    Attributes:
        destroyed: the connection is forgotten by the kernel.
        origin: tuple of the initiator's packets, as they came.
        reply: tuple of the answers, as the responder sends them.
        proto: IANA number.
        icmp: type (times 256) and code of the initiator's packets.
        number: the kernel's number of the connection.
        status: IPS_ bits.
        counted: packets and bytes of the initiator, then of the responder, int64 (n, 4); 0 where nothing counts.
    """

    destroyed: Bool
    origin: Tuples
    reply: Tuples
    proto: I64
    icmp: I64
    number: U64
    status: I64
    counted: I64

    def __len__(self) -> int:
        return len(self.proto)


@dataclass(frozen=True)
class _Layout:
    """Where the fields of both tuples are, for one family and kind of protocol; ``heads`` are known bytes."""

    heads: list[tuple[int, int, int]] = field(default_factory=list)  # place, size of an attribute, its type
    addresses: list[int] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    proto: int = 0
    size: int = 4  # of an address
    end: int = 0


def _layout(size: int, port_types: tuple[int, ...]) -> _Layout:
    """Lay out two tuples; ``port_types``: attributes of two ports, or of identifier, type and code of ICMP."""
    ip = 4 + 2 * (4 + size)
    transport = 4 + 8 + 8 * len(port_types)
    heads: list[tuple[int, int, int]] = []
    addresses: list[int] = []
    ports: list[int] = []
    at, proto = HEADER, 0
    for number in (1, 2):
        heads += [(at, 4 + ip + transport, number), (at + 4, ip, 1), (at + 4 + ip, transport, 2)]
        for which in (0, 1):
            place = at + 8 + which * (4 + size)
            heads.append((place, 4 + size, which + (1 if size == 4 else 3)))
            addresses.append(place + 4)
        first = at + 8 + ip
        heads.append((first, 5, 1))
        proto = proto or first + 4
        for which, kind in enumerate(port_types):
            # Ports and the identifier have two bytes, type and code of ICMP one.
            heads.append((first + 8 + 8 * which, 6 if which == 0 or len(port_types) == 2 else 5, kind))
            ports.append(first + 12 + 8 * which)
        at += 4 + ip + transport
    return _Layout(heads, addresses, ports, proto, size, at)


_LAYOUTS = (_layout(4, (2, 3)), _layout(16, (2, 3)), _layout(4, (4, 5, 6)), _layout(16, (7, 8, 9)))


def parse(slots: U8, sizes: I64) -> tuple[Connections, int]:
    """Return what messages say, and how many could not be read: other protocols, zones.

    Args:
        slots: uint8 (n, width), each with a message at its beginning.
        sizes: int64 (n,), bytes of each message.
    """
    found: list[tuple[I64, _Layout]] = []
    left = np.ones(len(slots), np.bool_)
    for layout in _LAYOUTS:
        fits = left & (sizes >= layout.end)
        for at, size, kind in layout.heads:
            fits &= (_u16(slots, at) == size) & (_u16(slots, at + 2) & _TYPE_BITS == kind)
        found.append((np.flatnonzero(fits), layout))
        left &= ~fits
    parts = [_read(slots[rows], sizes[rows], layout) for rows, layout in found]
    order = np.argsort(np.concatenate([rows for rows, _ in found]), kind="stable")
    return _joined(parts, order), int(left.sum())


def _read(slots: U8, sizes: I64, layout: _Layout) -> Connections:
    addresses = [_address(slots, at, layout.size) for at in layout.addresses]
    half = len(layout.ports) // 2
    first, second = (layout.ports[side * half : side * half + 2] for side in (0, 1))
    icmp = half == 3
    ports = [_be16(slots, at) for at in (*first, *second)]
    if icmp:
        ports[1], ports[3] = np.zeros_like(ports[1]), np.zeros_like(ports[3])
        # An answer bears the same identifier, which stands where the source port of either side's packets would.
        ports[2], ports[3] = ports[3], ports[2]
    at = _attribute_places(slots, sizes, layout.end)
    counted = np.zeros((len(slots), 4), np.int64)
    for side, kind in enumerate((_COUNTERS, _REPLY_COUNTERS)):
        nested = _attribute_places(slots, np.where(at[:, kind] > 0, at[:, kind] + 24, 0), at[:, kind])
        for column, inner in enumerate((_COUNTED_PACKETS, _COUNTED_BYTES)):
            counted[:, 2 * side + column] = _number_at(slots, nested[:, inner], 8)
    code = _u8(slots, layout.ports[1]) * 256 + _u8(slots, layout.ports[2]) if icmp else np.zeros(len(slots), np.int64)
    return Connections(
        _u8(slots, 4) == DESTROY,
        Tuples(*addresses[0], *addresses[1], ports[0], ports[1]),
        Tuples(*addresses[2], *addresses[3], ports[2], ports[3]),
        _u8(slots, layout.proto), code, _number_at(slots, at[:, _ID], 4).astype(np.uint64),
        _number_at(slots, at[:, STATUS], 4), counted,
    )  # fmt: skip


def _joined(parts: list[Connections], order: I64) -> Connections:
    def column(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])[order]

    def tuples(name: str) -> Tuples:
        sides = [getattr(part, name) for part in parts]
        return Tuples(*(np.concatenate([getattr(s, f.name) for s in sides])[order] for f in fields(Tuples)))

    return Connections(
        column("destroyed"), tuples("origin"), tuples("reply"), column("proto"), column("icmp"), column("number"),
        column("status"), column("counted"),
    )  # fmt: skip


def _attribute_places(slots: U8, ends: I64, start: int | I64) -> I64:
    """Return where the values of attributes begin, int64 (n, 16), 0 where there is none; walks all rows together."""
    places = np.zeros((len(slots), 16), np.int64)
    at = np.zeros(len(slots), np.int64) + start
    rows = np.arange(len(slots))
    ends = np.minimum(ends, slots.shape[1])
    for _ in range(_ATTRIBUTES):
        rows = rows[at[rows] + 4 <= ends[rows]]
        if not len(rows):
            break
        here = at[rows]
        size = slots[rows, here].astype(np.int64) | slots[rows, here + 1].astype(np.int64) << 8
        kind = (slots[rows, here + 2].astype(np.int64) | slots[rows, here + 3].astype(np.int64) << 8) & _TYPE_BITS
        good = (size >= 4) & (here + size <= ends[rows])
        known = good & (kind < 16)
        places[rows[known], kind[known]] = here[known] + 4
        at[rows] = np.where(good, here + (size + 3 & ~3), np.iinfo(np.int64).max >> 1)
    return places


def _number_at(slots: U8, places: I64, size: int) -> I64:
    """Return big-endian numbers at places that differ by row; 0 where the place is 0."""
    value = np.zeros(len(slots), np.int64)
    rows = np.flatnonzero((places > 0) & (places + size <= slots.shape[1]))
    for byte in range(size):
        value[rows] = value[rows] << 8 | slots[rows, places[rows] + byte]
    return value


def _u8(slots: U8, at: int) -> I64:
    return slots[:, at].astype(np.int64)


def _u16(slots: U8, at: int) -> I64:
    return slots[:, at].astype(np.int64) | slots[:, at + 1].astype(np.int64) << 8


def _be16(slots: U8, at: int) -> I64:
    return slots[:, at].astype(np.int64) << 8 | slots[:, at + 1].astype(np.int64)


def _address(slots: U8, at: int, size: int) -> tuple[U64, U64]:
    raw = np.ascontiguousarray(slots[:, at : at + size])
    if size == 4:
        low = raw.view(">u4")[:, 0].astype(np.uint64) | MAPPED
        return np.zeros(len(raw), np.uint64), low
    halves = raw.view(">u8").astype(np.uint64)
    return halves[:, 0], halves[:, 1]
