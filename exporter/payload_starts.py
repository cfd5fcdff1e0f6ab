"""Which packets begin a TLS handshake or an HTTP message, told from their first eight payload bytes."""

from __future__ import annotations

import numpy as np

from exporter.chunks import I64, U8
from exporter.gather import U64, u64_at
from exporter.http_wire import METHODS
from exporter.packets import TCP, Packets

# What a packet begins with; PARTIAL: fewer than eight bytes that may be a method's beginning.
NOTHING, CLIENT_HELLO, SERVER_HELLO, REQUEST, RESPONSE, PARTIAL = range(6)


def prefix(start: bytes) -> tuple[np.uint64, np.uint64]:
    """Return value and mask that tell payloads with this beginning, as 64-bit words; longer ones are cut to 8."""
    start = start[:8]
    mask = (1 << 64) - (1 << 8 * (8 - len(start)))
    return np.uint64(int.from_bytes(start.ljust(8, b"\0"), "big")), np.uint64(mask)


METHOD_STARTS = tuple(prefix(method) for method in METHODS)
RESPONSE_START = prefix(b"HTTP/1.")
# Record type 22 and version 3.x; the sixth byte is the message's type (RFC 8446 sections 4 and 5.1).
_HELLO_MASK = np.uint64(0xFFFF0000_00FF0000)
_HELLOS = ((CLIENT_HELLO, np.uint64(0x16030000_00010000)), (SERVER_HELLO, np.uint64(0x16030000_00020000)))
_FIRST = np.zeros(256, np.bool_)
_FIRST[[0x16, *{method[0] for method in METHODS}]] = True


def find_starts(packets: Packets) -> tuple[I64, U8]:
    """Return positions of packets that begin something, and what."""
    net = packets.net
    positions = np.flatnonzero((net.proto == TCP) & (packets.payload_captured > 0))
    positions = positions[_FIRST[packets.buffer[packets.payload_at[positions]]]]
    if net.later.any():
        positions = positions[~net.later[positions]]
    kinds = _classify(u64_at(packets.buffer, packets.payload_at[positions]))
    short = packets.payload[positions] < 8
    # What stands behind a short payload in the buffer is not its own.
    kinds[short] = PARTIAL
    kinds[~short & (packets.payload_captured[positions] < 8)] = NOTHING
    found = kinds != NOTHING
    return positions[found], kinds[found]


def _classify(words: U64) -> U8:
    kinds = np.zeros(len(words), np.uint8)
    for kind, value in _HELLOS:
        kinds[words & _HELLO_MASK == value] = kind
    for value, mask in METHOD_STARTS:
        kinds[words & mask == value] = REQUEST
    kinds[words & RESPONSE_START[1] == RESPONSE_START[0]] = RESPONSE
    return kinds
