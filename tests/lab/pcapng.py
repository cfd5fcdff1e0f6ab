"""Just enough pcapng to clean up what dumpcap wrote: sort by time, cut frames, drop what names the machine.

Format: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html (block layouts, section 4).
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SECTION, INTERFACE, ENHANCED = 0x0A0D0D0A, 1, 6
IF_NAME, IF_TSRESOL = 2, 9
NANOSECONDS = 9
ETHERNET = 1


@dataclass(frozen=True, slots=True)
class Packet:
    """One captured frame: time in nanoseconds since 1970, interface name, length on the wire, bytes kept."""

    time_ns: int
    interface: str
    wire_bytes: int
    data: bytes


def _blocks(raw: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 12 <= len(raw):
        kind, length = struct.unpack_from("<II", raw, at)
        if at + length > len(raw):
            return  # still being written
        yield kind, raw[at + 8 : at + length - 4]
        at += length


def _options(raw: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(raw):
        code, length = struct.unpack_from("<HH", raw, at)
        found[code] = raw[at + 4 : at + 4 + length]
        at += 4 + (length + 3) // 4 * 4
    return found


def read(path: Path) -> list[Packet]:
    """All packets of a little-endian pcapng file (gzip by name) in file order; a growing one as far as it goes.

    Raises ValueError for another time resolution than 10^-6 or 10^-9 s.
    """
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    interfaces: list[tuple[str, int]] = []
    packets: list[Packet] = []
    for kind, body in _blocks(raw):
        if kind == INTERFACE:
            options = _options(body[8:])
            digits = options.get(IF_TSRESOL, b"\x06")[0]
            if digits not in (6, 9):
                raise ValueError(f"{path}: time resolution 10^-{digits} s is not read here")
            interfaces.append((options[IF_NAME].decode(), 10 ** (9 - digits)))
        elif kind == ENHANCED:
            which, high, low, kept, wire = struct.unpack_from("<IIIII", body)
            name, scale = interfaces[which]
            packets.append(Packet(((high << 32) | low) * scale, name, wire, body[20 : 20 + kept]))
    return packets


def _block(kind: int, body: bytes) -> bytes:
    body += b"\0" * (-len(body) % 4)
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + b"\0" * (-len(value) % 4)


def write(path: Path, packets: Sequence[Packet], interfaces: Sequence[str], cut: Callable[[bytes], int]) -> None:
    """Write a gzipped pcapng: interfaces in the given order, packets sorted by time (ties keep their order).

    `cut` says how many bytes of a frame to keep; it is asked once per frame, in order. Same packets in, same bytes out.
    """
    blocks = [_block(SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))]
    for name in interfaces:
        options = _option(IF_NAME, name.encode()) + _option(IF_TSRESOL, bytes([NANOSECONDS])) + _option(0, b"")
        blocks.append(_block(INTERFACE, struct.pack("<HHI", ETHERNET, 0, 0) + options))
    index = {name: number for number, name in enumerate(interfaces)}
    for packet in sorted(packets, key=lambda p: p.time_ns):
        data = packet.data[: cut(packet.data)]
        head = (index[packet.interface], packet.time_ns >> 32, packet.time_ns & 0xFFFFFFFF, len(data))
        blocks.append(_block(ENHANCED, struct.pack("<IIIII", *head, packet.wire_bytes) + data))
    path.write_bytes(gzip.compress(b"".join(blocks), compresslevel=9, mtime=0))
