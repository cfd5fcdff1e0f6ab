"""The kernel's messages about tracked connections (ctnetlink), many at once and by columns.

Messages about connections of one family and protocol are alike: the same attributes, of the same sizes, in the same
order. So the first of each shape is walked through, and of all others with the same attribute headers in the same
places the fields are read as columns. Attribute numbers: <linux/netfilter/nfnetlink_conntrack.h>.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from exporter.chunks import I64, U8
from exporter.gather import U64
from exporter.link_block import MAPPED
from exporter.network_layer import Bool
from exporter.tuples import Tuples

NEW, DESTROY = 0, 2  # low byte of the type of messages
SEEN_REPLY, ASSURED, SOURCE_CHANGED, DESTINATION_CHANGED = 0x2, 0x4, 0x10, 0x20  # bits of the status
TRANSLATED = SOURCE_CHANGED | DESTINATION_CHANGED
HEADER = 20  # bytes of struct nlmsghdr and struct nfgenmsg
STATUS = 3
_ORIGIN, _REPLY, _COUNTERS, _REPLY_COUNTERS, _ID = 1, 2, 9, 10, 12
_IP, _PROTO, _PROTO_NUMBER = 1, 2, 1
_IP4, _IP6, _PORTS, _ICMP, _ICMP6 = (1, 2), (3, 4), (2, 3), (4, 5, 6), (7, 8, 9)
_TYPE_BITS = 0x3FFF  # of an attribute's type, without the flags
_SHAPES = 64  # remembered; a kernel has about ten

_Attribute = tuple[int, int, int]  # place, size with header, type


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
class _Shape:
    """Where everything is in messages of ``size`` bytes whose attribute headers are ``heads`` at ``places``.

    Attributes:
        addresses: places of source and destination, of both tuples.
        wide: bytes of an address.
        ports: places of two ports, or of identifier, type and code of ICMP, of both tuples.
        status, number: places, 0 where there is none.
        counted: places of four counters, likewise.
    """

    size: int
    places: I64
    heads: U8
    addresses: tuple[int, ...]
    wide: int
    proto: int
    ports: tuple[tuple[int, ...], tuple[int, ...]]
    status: int
    number: int
    counted: tuple[int, ...]

    def fits(self, slots: U8, sizes: I64) -> Bool:
        found: Bool = sizes == self.size
        found[found] = (slots[found][:, self.places] == self.heads).all(axis=1)
        return found

    def read(self, slots: U8) -> Connections:
        addresses = [_address(slots, at, self.wide) for at in self.addresses]
        origin, reply = ([_number(slots, at, 2) for at in side[:2]] for side in self.ports)
        icmp = np.zeros(len(slots), np.int64)
        if len(self.ports[0]) == len(_ICMP):
            _, kind, code = self.ports[0]
            icmp = _number(slots, kind, 1) * 256 + _number(slots, code, 1)
            # An answer bears the same identifier, which stands where the source port of either side's packets would.
            origin[1], reply[1], reply[0] = icmp * 0, reply[0], icmp * 0
        return Connections(
            slots[:, 4] == DESTROY, Tuples(*addresses[0], *addresses[1], origin[0], origin[1]),
            Tuples(*addresses[2], *addresses[3], reply[0], reply[1]), _number(slots, self.proto, 1), icmp,
            _number(slots, self.number, 4).astype(np.uint64), _number(slots, self.status, 4),
            np.stack([_number(slots, at, 8) for at in self.counted], axis=1),
        )  # fmt: skip


class ConnectionMessages:
    """Reads messages; remembers the shapes that it has met."""

    def __init__(self) -> None:
        self._shapes: list[_Shape] = []

    def parse(self, slots: U8, sizes: I64) -> tuple[Connections, int]:
        """Return what messages say, and how many could not be read: other protocols, zones, cut off.

        Args:
            slots: uint8 (n, width), each with a message at its beginning.
            sizes: int64 (n,), bytes of each message.
        """
        left = np.arange(len(slots))
        found: list[tuple[I64, _Shape]] = []
        for shape in self._shapes:
            left = _take(shape, slots, sizes, left, found)
        unread = 0
        while len(left):
            first = left[0]
            made = _shape(slots[first, : sizes[first]].tobytes())
            if made is None:
                unread += 1
                left = left[1:]
                continue
            self._shapes = [*self._shapes, made][-_SHAPES:]
            left = _take(made, slots, sizes, left, found)
        parts = [shape.read(slots[rows]) for rows, shape in found] or [_NO_SHAPE.read(slots[:0])]
        if len(parts) == 1:
            return parts[0], unread
        return _joined(parts, np.argsort(np.concatenate([rows for rows, _ in found]), kind="stable")), unread


def _take(shape: _Shape, slots: U8, sizes: I64, left: I64, found: list[tuple[I64, _Shape]]) -> I64:
    """Note the rows that have a shape; returns those that are left."""
    if not len(left):
        return left
    fits = shape.fits(slots[left], sizes[left])
    if fits.any():
        found.append((left[fits], shape))
    return left[~fits]


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


def _attributes(raw: bytes, at: int, end: int) -> Iterator[_Attribute]:
    """Give the attributes between two places, as far as they are whole."""
    while at + 4 <= end:
        size = int.from_bytes(raw[at : at + 2], "little")
        if size < 4 or at + size > end:
            return
        yield at, size, int.from_bytes(raw[at + 2 : at + 4], "little") & _TYPE_BITS
        at += size + -size % 4


def _within(raw: bytes, outer: _Attribute, heads: list[int]) -> dict[int, _Attribute]:
    """Return the attributes inside one by type, and note where their headers are."""
    at, size, _ = outer
    found = {each[2]: each for each in _attributes(raw, at + 4, at + size)}
    heads += [each[0] for each in found.values()]
    return found


def _values(found: dict[int, _Attribute], kinds: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return where the values of attributes are; None unless all are there, with these sizes."""
    chosen = [found[kind] for kind in kinds if kind in found]
    if [each[1] - 4 for each in chosen] != list(sizes):
        return None
    return tuple(each[0] + 4 for each in chosen)


def _shape(raw: bytes) -> _Shape | None:
    """Walk through one message; None where it is none about two ends that are known."""
    tops = {each[2]: each for each in _attributes(raw, HEADER, len(raw))}
    heads = [each[0] for each in tops.values()]
    addresses: list[int] = []
    ports: list[tuple[int, ...]] = []
    proto = wide = 0
    for kind in (_ORIGIN, _REPLY):
        parts = _within(raw, tops[kind], heads) if kind in tops else {}
        # Anything else in a tuple, such as a zone, would be lost.
        if parts.keys() != {_IP, _PROTO}:
            return None
        ip, transport = (_within(raw, parts[part], heads) for part in (_IP, _PROTO))
        ends = _values(ip, _IP4, (4, 4)) or _values(ip, _IP6, (16, 16))
        told = _values(transport, _PORTS, (2, 2)) or _values(transport, _ICMP, (2, 1, 1))
        told = told or _values(transport, _ICMP6, (2, 1, 1))
        number = _values(transport, (_PROTO_NUMBER,), (1,))
        if ends is None or told is None or number is None:
            return None
        addresses += ends
        ports.append(told)
        proto, wide = proto or number[0], ends[1] - ends[0] - 4
    counted: list[int] = []
    for kind in (_COUNTERS, _REPLY_COUNTERS):
        inner = _within(raw, tops[kind], heads) if kind in tops else {}
        counted += _values(inner, (1, 2), (8, 8)) or (0, 0)
    status, identity = (_values(tops, (kind,), (4,)) or (0,) for kind in (STATUS, _ID))
    places = np.array(sorted(at + byte for at in set(heads) for byte in range(4)), np.int64)
    found = np.frombuffer(raw, np.uint8)[places]
    both = (ports[0], ports[1])
    return _Shape(
        len(raw), places, found, tuple(addresses), wide, proto, both, status[0], identity[0], tuple(counted)
    )  # fmt: skip


_NO_SHAPE = _Shape(
    0, np.zeros(0, np.int64), np.zeros(0, np.uint8), (0,) * 4, 4, 0, ((0, 0), (0, 0)), 0, 0, (0,) * 4
)  # fmt: skip


def _number(slots: U8, at: int, size: int) -> I64:
    """Return big-endian numbers at one place of all messages; 0 where the place is 0: there is none."""
    if not at:
        return np.zeros(len(slots), np.int64)
    raw = np.ascontiguousarray(slots[:, at : at + size])
    return raw.view(f">u{size}")[:, 0].astype(np.int64)


def _address(slots: U8, at: int, size: int) -> tuple[U64, U64]:
    raw = np.ascontiguousarray(slots[:, at : at + size])
    if size == 4:
        low = raw.view(">u4")[:, 0].astype(np.uint64) | MAPPED
        return np.zeros(len(raw), np.uint64), low
    halves = raw.view(">u8").astype(np.uint64)
    return halves[:, 0], halves[:, 1]
