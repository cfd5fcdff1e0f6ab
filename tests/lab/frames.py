"""Who a captured frame is from and to: read here a second time, apart from the exporter, so truth is not circular."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

IPV4, IPV6 = 0x0800, 0x86DD
TCP, UDP = 6, 17
DNS_PORT = 53


@dataclass(frozen=True, slots=True)
class Ends:
    """Addresses as text, IP protocol number, ports (0 where there are none) and TCP flags of one frame."""

    src: str
    dst: str
    proto: int
    sport: int
    dport: int
    flags: int


def ends(frame: bytes) -> Ends | None:
    """Read an untagged Ethernet frame with a plain IPv4 or IPv6 packet; None for anything else."""
    kind = struct.unpack_from("!H", frame, 12)[0]
    if kind == IPV4:
        proto, at = frame[23], 14 + (frame[14] & 15) * 4
        src, dst = frame[26:30], frame[30:34]
    elif kind == IPV6:
        proto, at = frame[20], 54
        src, dst = frame[22:38], frame[38:54]
    else:
        return None
    sport, dport = struct.unpack_from("!HH", frame, at) if proto in (TCP, UDP) else (0, 0)
    flags = frame[at + 13] if proto == TCP else 0
    return Ends(str(ipaddress.ip_address(src)), str(ipaddress.ip_address(dst)), proto, sport, dport, flags)


def kept_bytes(frame: bytes, limit: int) -> int:
    """How much of a frame a recording keeps: DNS messages whole, everything else up to `limit` bytes."""
    found = ends(frame)
    if found is not None and DNS_PORT in (found.sport, found.dport):
        return len(frame)
    return min(len(frame), limit)
