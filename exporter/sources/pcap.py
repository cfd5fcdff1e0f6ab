"""Classic pcap records to packet chunks.

Format: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/ (magic numbers, record header).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from exporter.chunks import I64, Interface, PacketChunk
from exporter.gather import structs_at

HEADER_BYTES = 24
_LENGTH_AT = 8  # of the captured length in a record header
# magic as stored: (byte order, ns per fraction unit, bytes of a record header)
_MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000, 16), b"\xa1\xb2\xc3\xd4": (">", 1000, 16),
    b"\x4d\x3c\xb2\xa1": ("<", 1, 16), b"\xa1\xb2\x3c\x4d": (">", 1, 16),
    # Kuznetsov's variant carries 8 more bytes (interface, protocol, packet type) per record.
    b"\x34\xcd\xb2\xa1": ("<", 1000, 24), b"\xa1\xb2\xcd\x34": (">", 1000, 24),
}  # fmt: skip


def is_pcap(start: bytes) -> bool:
    """Tell whether a file begins like classic pcap."""
    return start[:4] in _MAGICS


@dataclass(frozen=True)
class Walk:
    """What one walk over a block found.

    Attributes:
        chunks: the packets, in order.
        consumed: bytes up to the first record that is not complete.
        problem: why the rest of the file cannot be read; empty while it can.
    """

    chunks: list[PacketChunk]
    consumed: int
    problem: str = ""


class PcapParser:
    """Reads the records that follow one file header."""

    def __init__(self, header: bytes, max_packet_bytes: int) -> None:
        order, self._fraction, self._record = _MAGICS[header[:4]]
        link_type = struct.unpack_from(order + "I", header, 20)[0] & 0xFFFF
        self._table = (Interface("", link_type),)
        self._length = struct.Struct(order + "I")
        self._dtype = np.dtype([(name, order + "u4") for name in ("seconds", "fraction", "captured", "wire")])
        self._most = max_packet_bytes

    def walk(self, block: memoryview, end: int) -> Walk:
        """Find the records in ``block[:end]``; the block has padding behind ``end``."""
        lengths_at: list[int] = []
        # This loop runs once per packet and decides the speed of reading; checks wait until after it.
        append, length_at, record = lengths_at.append, self._length.unpack_from, self._record
        place, last = _LENGTH_AT, end - record + _LENGTH_AT
        while place <= last:
            append(place)
            place += length_at(block, place)[0] + record
        consumed = place - _LENGTH_AT
        problem = ""
        if consumed > end:
            # The last record is not whole: cut off, or its length is nonsense.
            consumed = lengths_at.pop() - _LENGTH_AT
            length = length_at(block, consumed + _LENGTH_AT)[0]
            problem = f"a record claims {length} bytes" if length > self._most else ""
        if not lengths_at:
            return Walk([], consumed, problem)
        positions = np.array(lengths_at, dtype=np.int64) - _LENGTH_AT
        return Walk([self._chunk(block, positions)], consumed, problem)

    def _chunk(self, block: memoryview, positions: I64) -> PacketChunk:
        buffer = np.frombuffer(block, dtype=np.uint8)
        heads = structs_at(buffer, positions, self._dtype)
        times = heads["seconds"].astype(np.int64) * 1_000_000_000 + heads["fraction"].astype(np.int64) * self._fraction
        captured, wire = heads["captured"].astype(np.int64), heads["wire"].astype(np.int64)
        return PacketChunk(
            buffer, positions + self._record, captured, np.maximum(wire, captured), times,
            np.zeros(len(positions), dtype=np.int32), self._table,
        )  # fmt: skip
