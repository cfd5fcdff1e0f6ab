"""Which application a flow carries, guessed from the first eight bytes of its first payload."""

from __future__ import annotations

import numpy as np

from exporter.chunks import I64, U8
from exporter.gather import u64_at
from exporter.packets import TCP, UDP, Packets
from exporter.payload_starts import METHOD_STARTS, prefix

APPS = ("", "tls", "http", "ssh", "dns", "quic", "smb", "ftp", "rdp", "smtp")
_NUMBER = {name: number for number, name in enumerate(APPS)}


# (application, first bytes); RFC 8446 record type 22 and version 3.x, RFC 9110 methods, RFC 4253 banner.
_TCP_STARTS = (
    *((_NUMBER["http"], *start) for start in METHOD_STARTS),
    *(
        (_NUMBER[app], *prefix(start))
        for app, start in (
            ("tls", b"\x16\x03"), ("ssh", b"SSH-"), ("http", b"PRI * HT"), ("http", b"HTTP/"), ("rdp", b"\x03\x00\x00"),
        )
    ),
)  # fmt: skip
_SMB_MASK = np.uint64(0xFF000000FFFFFF00)
_SMB1, _SMB2 = (np.uint64(int.from_bytes(b"\0\0\0\0" + s + b"\0", "big")) for s in (b"\xffSM", b"\xfeSM"))
_GREETING = prefix(b"220")
_QUIC_LONG = np.uint64(0xC0 << 56)


def guess(packets: Packets, positions: I64) -> U8:
    """Return the number in ``APPS`` for packets that carry a flow's first payload; 0: no guess."""
    words = u64_at(packets.buffer, packets.payload_at[positions])
    whole = packets.payload_captured[positions] >= 8
    proto = packets.net.proto[positions]
    source, target = packets.src_port[positions], packets.dst_port[positions]
    found = np.zeros(len(positions), np.uint8)
    tcp = (proto == TCP) & whole
    for number, value, mask in _TCP_STARTS:
        found[tcp & (words & mask == value)] = number
    body = words & _SMB_MASK
    found[tcp & ((body == _SMB1) | (body == _SMB2))] = _NUMBER["smb"]
    greeting = tcp & (words & _GREETING[1] == _GREETING[0])
    found[greeting & (source == 21)] = _NUMBER["ftp"]
    found[greeting & ((source == 25) | (source == 587))] = _NUMBER["smtp"]
    udp = (proto == UDP) & whole
    long_header = (words & _QUIC_LONG == _QUIC_LONG) & ((source == 443) | (target == 443))
    found[udp & long_header] = _NUMBER["quic"]
    # DNS has no magic; its port is the word for it on both transports.
    found[((source == 53) | (target == 53)) & (packets.payload_captured[positions] >= 12)] = _NUMBER["dns"]
    return found
