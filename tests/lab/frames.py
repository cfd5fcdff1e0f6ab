"""Who a captured frame is from and to: read here a second time, apart from the exporter, so truth is not circular."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, replace

from tests.lab import pods

IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
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


def speaker_ends(frame: bytes) -> Ends | None:
    """Who sent a frame by its hardware address, and whom an ARP frame asks or tells; None for strangers.

    For attacks that lie about who they are: the addresses inside are what the attacker wants them to be.
    """
    mac = frame[6:12].hex(":")
    pod = next((pod for pod in pods.PODS if pod.mac == mac), None)
    if pod is None:
        return None
    if struct.unpack_from("!H", frame, 12)[0] == ARP:
        return Ends(pod.ip4, str(ipaddress.ip_address(frame[38:42])), 0, 0, 0, 0)
    found = ends(frame)
    return found if found is None else replace(found, src=pod.ip6 if ":" in found.src else pod.ip4)


def kept_bytes(frame: bytes, limit: int) -> int:
    """How much of a frame a recording keeps: DNS messages whole, everything else up to `limit` bytes."""
    found = ends(frame)
    if found is not None and DNS_PORT in (found.sport, found.dport):
        return len(frame)
    return min(len(frame), limit)
