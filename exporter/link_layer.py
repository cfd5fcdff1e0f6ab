"""Link layer: where the network header begins, what it is, and who sent the frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exporter.chunks import (
    I64,
    LINK_COOKED,
    LINK_COOKED2,
    LINK_ETHERNET,
    LINK_IPV4,
    LINK_IPV6,
    LINK_LOOP,
    LINK_NULL,
    LINK_RAW,
    LINK_RAW_BSD,
    LINK_RAW_OPENBSD,
    U8,
    PacketChunk,
)  # fmt: skip
from exporter.gather import U64, structs_at, u16_at, u64_at

ETHER_IPV4 = 0x0800
ETHER_ARP = 0x0806
ETHER_IPV6 = 0x86DD
_VLAN_TAGS = (0x8100, 0x88A8, 0x9100)
_PPPOE_SESSION = 0x8864
_MAX_TAGS = 4
_MAC_SHIFT = np.uint64(16)
# https://www.tcpdump.org/linktypes/LINKTYPE_NULL.html: AF_INET6 differs between the BSDs.
_FAMILY_IPV4 = (2,)
_FAMILY_IPV6 = (10, 24, 28, 30)


@dataclass
class Frames:
    """Columns over the packets of a chunk, shape (n,).

    Attributes:
        ether_type: int64, what follows at ``network``; 0 where nothing known does.
        network: int64, offset of the network header in the buffer.
        source: uint64, 48-bit Ethernet source; 0 where the link has none.
        destination: uint64, 48-bit Ethernet destination; 0 where the link has none.
        vlan: int64, outer VLAN id; 0 without one.
    """

    ether_type: I64
    network: I64
    source: U64
    destination: U64
    vlan: I64


def read_frames(chunk: PacketChunk) -> tuple[Frames, frozenset[int]]:
    """Return the frames of a chunk and the link types in it that are not known."""
    count = len(chunk)
    types = np.array([interface.link_type for interface in chunk.table], dtype=np.int64)[chunk.interfaces]
    frames = Frames(np.zeros(count, np.int64), chunk.offsets.copy(), np.zeros(count, np.uint64),
                    np.zeros(count, np.uint64), np.zeros(count, np.int64))  # fmt: skip
    unknown = set()
    present = [int(types[0])] if count and bool((types == types[0]).all()) else np.unique(types).tolist()
    for link_type in present:
        reader = _READERS.get(link_type)
        if reader is None:
            unknown.add(link_type)
            continue
        rows: npt.NDArray[np.int64] | slice = slice(None) if len(present) == 1 else np.flatnonzero(types == link_type)
        reader(chunk.buffer, chunk.offsets[rows], frames, rows)
    _strip_tags(chunk.buffer, frames)
    if chunk.vlans is not None:
        # The outer tag; one that is still in the packet stood behind it.
        frames.vlan = np.where(chunk.vlans > 0, chunk.vlans, frames.vlan)
    # A header that the capture cut off is not there.
    frames.ether_type[frames.network > chunk.offsets + chunk.captured] = 0
    return frames, frozenset(unknown)


Rows = I64 | slice


def _ethernet(buffer: U8, at: I64, frames: Frames, rows: Rows) -> None:
    frames.destination[rows] = u64_at(buffer, at) >> _MAC_SHIFT
    # Bytes 6 to 13: the source and, in the low 16 bits, the type.
    source_and_type = u64_at(buffer, at + 6)
    frames.source[rows] = source_and_type >> _MAC_SHIFT
    frames.ether_type[rows] = (source_and_type & np.uint64(0xFFFF)).astype(np.int64)
    frames.network[rows] = at + 14


def _cooked(buffer: U8, at: I64, frames: Frames, rows: Rows) -> None:
    source = u64_at(buffer, at + 6) >> _MAC_SHIFT
    frames.source[rows] = np.where(u16_at(buffer, at + 4) == 6, source, 0)
    frames.ether_type[rows] = u16_at(buffer, at + 14)
    frames.network[rows] = at + 16


def _cooked2(buffer: U8, at: I64, frames: Frames, rows: Rows) -> None:
    source = u64_at(buffer, at + 12) >> _MAC_SHIFT
    frames.source[rows] = np.where(buffer[at + 11] == 6, source, 0)
    frames.ether_type[rows] = u16_at(buffer, at)
    frames.network[rows] = at + 20


def _raw(buffer: U8, at: I64, frames: Frames, rows: Rows) -> None:
    version = buffer[at] >> 4
    frames.ether_type[rows] = np.where(version == 4, ETHER_IPV4, np.where(version == 6, ETHER_IPV6, 0))


def _family(buffer: U8, at: I64, frames: Frames, rows: Rows) -> None:
    word = structs_at(buffer, at, np.dtype("<u4")).astype(np.int64)
    # Written in the order of the machine that captured; families are small numbers.
    family = np.where(word > 0xFFFF, structs_at(buffer, at, np.dtype(">u4")).astype(np.int64), word)
    found = np.where(np.isin(family, _FAMILY_IPV4), ETHER_IPV4, 0)
    frames.ether_type[rows] = np.where(np.isin(family, _FAMILY_IPV6), ETHER_IPV6, found)
    frames.network[rows] = at + 4


_READERS = {
    LINK_ETHERNET: _ethernet, LINK_COOKED: _cooked, LINK_COOKED2: _cooked2, LINK_NULL: _family, LINK_LOOP: _family,
    LINK_RAW: _raw, LINK_RAW_BSD: _raw, LINK_RAW_OPENBSD: _raw, LINK_IPV4: _raw, LINK_IPV6: _raw,
}  # fmt: skip


def _strip_tags(buffer: U8, frames: Frames) -> None:
    """Step over VLAN tags and PPPoE session headers; the outermost VLAN id is kept."""
    for depth in range(_MAX_TAGS):
        tagged = np.flatnonzero(np.isin(frames.ether_type, _VLAN_TAGS))
        if not len(tagged):
            break
        at = frames.network[tagged]
        if depth == 0:
            frames.vlan[tagged] = u16_at(buffer, at) & 0x0FFF
        frames.ether_type[tagged] = u16_at(buffer, at + 2)
        frames.network[tagged] = at + 4
    session = np.flatnonzero(frames.ether_type == _PPPOE_SESSION)
    if len(session):
        at = frames.network[session]
        protocol = u16_at(buffer, at + 6)
        found = np.where(protocol == 0x0021, ETHER_IPV4, np.where(protocol == 0x0057, ETHER_IPV6, 0))
        frames.ether_type[session] = found
        frames.network[session] = at + 8
