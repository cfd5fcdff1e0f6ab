"""pcapng blocks to packet chunks.

Format: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/ (sections 3 and 4). Sections may
differ in byte order; interface numbers start anew in each, so chunks use numbers of our own.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from exporter.chunks import I32, I64, LINK_ETHERNET, Interface, PacketChunk
from exporter.gather import U64, structs_at
from exporter.network_layer import Bool
from exporter.sources.pcap import Walk
from exporter.sources.pcapng_options import Clock, nanoseconds, read_options

_SECTION = 0x0A0D0D0A
_INTERFACE = 1
_PACKET = 2  # obsolete, still found in old files
_SIMPLE = 3
_ENHANCED = 6
_OPTION_NAME = 2
_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_MAX_INTERFACES = 4096


def is_pcapng(start: bytes) -> bool:
    """Tell whether a file begins like pcapng."""
    return start[:4] == b"\x0a\x0d\x0d\x0a" and start[8:12] in _ORDERS


@dataclass
class _Section:
    """One section: its byte order and where its interfaces begin in our table."""

    order: str
    first: int
    snap: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.two = struct.Struct(self.order + "II")
        self.enhanced = np.dtype(
            [("type", self.order + "u4"), ("length", self.order + "u4"), ("interface", self.order + "u4"),
             ("high", self.order + "u4"), ("low", self.order + "u4"), ("captured", self.order + "u4"),
             ("wire", self.order + "u4")]
        )  # fmt: skip


class PcapngParser:
    """Reads blocks one after the other; keeps the interfaces of all sections."""

    def __init__(self, max_packet_bytes: int) -> None:
        self._most = max_packet_bytes
        self._section: _Section | None = None
        self._table: list[Interface] = []
        self._clocks: list[Clock] = []
        self._time = 0

    def walk(self, block: memoryview, end: int) -> Walk:
        """Find the blocks in ``block[:end]``; the block has padding behind ``end``."""
        chunks: list[PacketChunk] = []
        position, problem = 0, ""
        while position + 12 <= end and not problem:
            positions, position, problem = self._run(block, position, end)
            if positions and self._section is not None:
                chunk, fault = self._chunk(block, np.array(positions, dtype=np.int64), self._section)
                chunks.append(chunk)
                problem = problem or fault
            elif position < 0:
                break
            if position + 12 > end or not self._complete(block, position, end):
                problem = problem or self._too_long(block, position, end)
                break
            if not problem:
                problem, position = self._special(block, position)
        return Walk(chunks, position, problem)

    def _run(self, block: memoryview, position: int, end: int) -> tuple[list[int], int, str]:
        """Collect packet blocks up to one that changes what they mean; returns them, where, and a problem."""
        positions: list[int] = []
        if self._section is None:
            return positions, position, ""
        append, head_at = positions.append, self._section.two.unpack_from
        while position + 12 <= end:
            kind, length = head_at(block, position)
            if kind == _ENHANCED and length >= 32:
                pass
            elif kind in (_SECTION, _INTERFACE):
                break
            elif length < 12 or (length < 32 and kind in (_ENHANCED, _PACKET)):
                return positions, position, f"a block claims {length} bytes"
            after = position + length + (-length & 3)
            if after > end:
                break
            if kind in (_ENHANCED, _PACKET, _SIMPLE):
                append(position)
            position = after
        return positions, position, ""

    def _length(self, block: memoryview, position: int) -> int:
        order = self._section.order if self._section else "<"
        if bytes(block[position : position + 4]) == b"\x0a\x0d\x0d\x0a":
            order = _ORDERS.get(bytes(block[position + 8 : position + 12]), order)
        return int(struct.unpack_from(order + "I", block, position + 4)[0])

    def _complete(self, block: memoryview, position: int, end: int) -> bool:
        length = self._length(block, position)
        return position + length + (-length & 3) <= end

    def _too_long(self, block: memoryview, position: int, end: int) -> str:
        if position + 12 > end:
            return ""
        length = self._length(block, position)
        # Blocks that are not packets (name tables, secrets) may be larger than any packet.
        return f"a block claims {length} bytes" if length > 16 * self._most else ""

    def _special(self, block: memoryview, position: int) -> tuple[str, int]:
        """Take in a section or interface block; returns a problem and the position after it."""
        length = self._length(block, position)
        if length < 20:
            return f"a block claims {length} bytes", position
        if bytes(block[position : position + 4]) == b"\x0a\x0d\x0d\x0a":
            order = _ORDERS.get(bytes(block[position + 8 : position + 12]))
            if order is None or length < 28:
                return "a section header is damaged", position
            self._section = _Section(order, len(self._table))
        elif self._section is None or len(self._table) >= _MAX_INTERFACES:
            return f"more than {_MAX_INTERFACES} interfaces", position
        else:
            self._add_interface(bytes(block[position : position + length]), self._section)
        return "", position + length + (-length & 3)

    def _add_interface(self, block: bytes, section: _Section) -> None:
        link_type, snap = struct.unpack_from(section.order + "HxxI", block, 8)
        options = read_options(block, section.order)
        self._clocks.append(Clock.of(options, section.order))
        name = options.get(_OPTION_NAME, b"").rstrip(b"\0").decode("utf-8", "replace")[:64]
        self._table.append(Interface(name, link_type))
        section.snap.append(snap)

    def _chunk(self, block: memoryview, positions: I64, section: _Section) -> tuple[PacketChunk, str]:
        buffer = np.frombuffer(block, dtype=np.uint8)
        heads = structs_at(buffer, positions, section.enhanced)
        kind, captured = heads["type"].astype(np.int64), heads["captured"].astype(np.int64)
        wire, local = heads["wire"].astype(np.int64), heads["interface"].astype(np.int64)
        offsets = positions + 28
        local = np.where(kind == _PACKET, _first_half(local, section.order), local)
        simple = kind == _SIMPLE
        if simple.any():
            size = heads["length"].astype(np.int64) - 16
            snap = section.snap[0] if section.snap and section.snap[0] else self._most
            wire = np.where(simple, heads["interface"].astype(np.int64), wire)
            captured = np.where(simple, np.minimum(np.minimum(wire, size), snap), captured)
            offsets = np.where(simple, positions + 12, offsets)
            local = np.where(simple, 0, local)
        good = (local < len(section.snap)) & (captured + 16 <= heads["length"] - np.where(simple, 0, 16))
        stamps = heads["high"].astype(np.uint64) << np.uint64(32) | heads["low"].astype(np.uint64)
        stop = len(good) if good.all() else int(np.argmin(good))
        interfaces = (local[:stop] + section.first).astype(np.int32)
        times = self._times(stamps[:stop], interfaces, simple[:stop])
        chunk = PacketChunk(
            buffer, offsets[:stop], captured[:stop], np.maximum(wire, captured)[:stop], times, interfaces,
            tuple(self._table) or (Interface("", LINK_ETHERNET),),
        )  # fmt: skip
        return chunk, "" if stop == len(good) else "a packet block names no interface or more bytes than it has"

    def _times(self, stamps: U64, interfaces: I32, simple: Bool) -> I64:
        times = np.zeros(len(stamps), dtype=np.int64)
        for number in np.unique(interfaces):
            mine = interfaces == number
            times[mine] = nanoseconds(stamps[mine], self._clocks[number])
        if simple.any():
            # Simple packet blocks carry no time: they take that of the packet before them.
            source = np.maximum.accumulate(np.where(simple, -1, np.arange(len(times))))
            times = np.where(source < 0, self._time, times[source])
        if len(times):
            self._time = int(times[-1])
        return times


def _first_half(words: I64, order: str) -> I64:
    """Return the 16-bit number stored first in each 32-bit word (obsolete blocks: interface, drops)."""
    return words & 0xFFFF if order == "<" else words >> 16
