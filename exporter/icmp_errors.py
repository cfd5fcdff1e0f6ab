"""ICMP errors that say a packet was not delivered, told by the packet they quote.

RFC 792 (type 3), RFC 4443 section 3.1 (type 1); both quote the packet's IP header and at least 8 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exporter.chunks import I64
from exporter.flow_keys import endpoint_keys, place_bits
from exporter.gather import U64, structs_at
from exporter.network_layer import Bool, read_networks
from exporter.packets import ICMP, ICMP6, TCP, UDP, Packets

_PORTS = np.dtype([("src", ">u2"), ("dst", ">u2")])
_UNREACHABLE, _UNREACHABLE6 = 3, 1
# Path MTU discovery: the packet was too big, nobody refused it.
_TOO_BIG = 4
_FAR = np.int64(1) << 40


@dataclass(frozen=True)
class Undelivered:
    """Shape (n,): positions of the errors in ``Packets``, flow keys and directions of the quoted packets."""

    positions: I64
    keys: U64
    backward: Bool


def undelivered(packets: Packets, seed: int) -> Undelivered:
    """Find ICMP errors about TCP and UDP packets."""
    proto, kind = packets.net.proto, packets.icmp_type
    four = (proto == ICMP) & (kind == _UNREACHABLE) & (packets.icmp_code != _TOO_BIG)
    wanted = (four | ((proto == ICMP6) & (kind == _UNREACHABLE6))) & ~packets.net.later
    positions = np.flatnonzero(wanted & (packets.payload_captured >= 24))
    if not len(positions):
        return Undelivered(positions, np.zeros(0, np.uint64), np.zeros(0, np.bool_))
    at = packets.payload_at[positions]
    ends = at + packets.payload_captured[positions]
    # The quote is cut short on purpose, so its own length says nothing about where it ends.
    quoted = read_networks(packets.buffer, at, ends, at + _FAR, proto[positions] == ICMP6)
    known = quoted.good & ~quoted.later & ((quoted.proto == TCP) | (quoted.proto == UDP))
    known &= quoted.transport + 4 <= ends
    ports = structs_at(packets.buffer, np.where(known, quoted.transport, 0), _PORTS)
    extra = place_bits(packets)[positions]
    keys, backward = endpoint_keys(
        quoted, ports["src"].astype(np.int64), ports["dst"].astype(np.int64), extra, np.zeros(len(at), np.bool_), seed
    )
    return Undelivered(positions[known], keys[known], backward[known])
