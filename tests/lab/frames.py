"""Who a captured frame is from and to: read here a second time, apart from the exporter, so truth is not circular."""

from __future__ import annotations

import ipaddress
import re
import struct
from dataclasses import dataclass, replace

from tests.lab import pods

IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
TCP, UDP = 6, 17
WHOLE_PORTS = frozenset({53, 67, 68})  # DNS, DHCP
TLS_HANDSHAKE = b"\x16\x03"
HTTP_LINE = re.compile(rb"(?:[A-Z]{3,9} [^ \r\n]+ HTTP/1\.|HTTP/1\.[0-9] )")
TLS_BYTES, HTTP_BYTES = 8192, 4096  # of a direction: hello and certificate; a request with its form


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


class SnapLength:
    """How much of each frame a recording keeps; ask for every frame once, in order.

    Whole: DNS and DHCP messages, the first bytes of TLS connections, HTTP requests, heads of answers.
    Everything else: `limit` bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left: dict[tuple[str, str, int, int], int] = {}  # bytes still kept whole, per direction

    def kept(self, frame: bytes) -> int:
        """Bytes of this frame to keep."""
        least, found = min(len(frame), self._limit), ends(frame)
        if found is None or found.proto not in (TCP, UDP):
            return least
        if WHOLE_PORTS & {found.sport, found.dport}:
            return len(frame)
        return max(least, self._head(frame, found)) if found.proto == TCP else least

    def _head(self, frame: bytes, found: Ends) -> int:
        at = _payload_at(frame)
        body, side = frame[at:], (found.src, found.dst, found.sport, found.dport)
        if body.startswith(TLS_HANDSHAKE):
            self._left.setdefault(side, TLS_BYTES)
        elif HTTP_LINE.match(body):
            self._left[side] = HTTP_BYTES
        left = self._left.get(side, 0)
        if not left or not body:
            return 0
        end = body.find(b"\r\n\r\n")
        if body.startswith(b"HTTP/") and end >= 0:
            self._left[side] = 0  # the head of an answer ends here; requests keep their forms
            return at + end + 4
        self._left[side] = max(0, left - len(body))
        return at + min(len(body), left)


def _payload_at(frame: bytes) -> int:
    """Where the TCP payload begins, in a frame that `ends` can read."""
    at = 54 if struct.unpack_from("!H", frame, 12)[0] == IPV6 else 14 + (frame[14] & 15) * 4
    return at + (frame[at + 12] >> 4) * 4


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
