"""DHCP messages to link rows, from clients, servers and relays (RFC 2131, options of RFC 2132).

Options are walked for all messages at once; only names become Python objects.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from exporter.chunks import I64, U8, PacketChunk
from exporter.gather import structs_at
from exporter.link_block import MAPPED, LinkBlock, frame_columns
from exporter.link_layer import Frames
from exporter.network_layer import Bool
from exporter.packets import UDP, Packets
from exporter.wire_text import text
from schemas.events import LinkClaim

_SERVER, _CLIENT = 67, 68
_BOOTP = np.dtype([
    ("op", "u1"), ("hardware", "u1"), ("hardware_size", "u1"), ("hops", "u1"), ("xid", ">u4"), ("secs", ">u2"),
    ("flags", ">u2"), ("client", ">u4"), ("yours", ">u4"), ("next", ">u4"), ("relay", ">u4"), ("mac_high", ">u2"),
    ("mac_low", ">u4"), ("rest", "V202"), ("cookie", ">u4"),
])  # fmt: skip
_COOKIE = 0x63825363
_PAD, _HOST_NAME, _REQUESTED, _TYPE, _VENDOR_CLASS, _END = 0, 12, 50, 53, 60, 255
_WANTED = (_HOST_NAME, _REQUESTED, _TYPE, _VENDOR_CLASS)
# By message type (RFC 2132 section 9.6); others (leasequery, force renew) are no claims.
_CLAIMS = np.zeros(256, np.uint8)
_CLAIMS[1:9] = [
    LinkClaim.DHCP_DISCOVER, LinkClaim.DHCP_OFFER, LinkClaim.DHCP_REQUEST, LinkClaim.DHCP_DECLINE, LinkClaim.DHCP_ACK,
    LinkClaim.DHCP_NAK, LinkClaim.DHCP_RELEASE, LinkClaim.DHCP_INFORM,
]  # fmt: skip
# More options (and single padding bytes) than this are not walked; clients send about ten.
_MAX_OPTIONS = 64
_U32 = np.dtype(">u4")


def read_dhcp(chunk: PacketChunk, frames: Frames, packets: Packets) -> tuple[LinkBlock, I64]:
    """Return link columns of DHCP messages, and the chunk positions of messages that cannot be read.

    The lease is the address given, else the one asked for, else the client's own. Messages without a type
    are BOOTP and claim nothing.
    """
    chosen = np.flatnonzero(packets.net.proto == UDP)
    source, target = packets.src_port[chosen], packets.dst_port[chosen]
    asks = (source == _CLIENT) & (target == _SERVER)
    # Relays speak to servers, and servers to relays, from port to port of the same number.
    answers = (source == _SERVER) & ((target == _CLIENT) | (target == _SERVER))
    chosen = chosen[(asks | answers) & ~packets.net.later[chosen]]
    if not len(chosen):
        return frame_columns(chunk, frames, chosen), chosen
    size, captured = packets.payload[chosen], packets.payload_captured[chosen]
    whole = np.flatnonzero(captured >= _BOOTP.itemsize)
    heads = structs_at(packets.buffer, packets.payload_at[chosen[whole]], _BOOTP)
    good = (heads["cookie"] == _COOKIE) & (heads["hardware_size"] <= 16)
    # Those that only the capture cut short are not the sender's fault.
    bad = captured == size
    bad[whole[good]] = False
    bad_positions = packets.index[chosen[bad]]
    chosen, heads = chosen[whole[good]], heads[good]
    at = packets.payload_at[chosen]
    options = _options(packets.buffer, at + _BOOTP.itemsize, at + packets.payload_captured[chosen])
    # A type that is not one byte reads as none.
    kinds = np.where(options[_TYPE][1] == 1, packets.buffer[options[_TYPE][0]], 0)
    claims = np.flatnonzero(_CLAIMS[kinds])
    rows = frame_columns(chunk, frames, packets.index[chosen[claims]])
    rows["claim"][:] = _CLAIMS[kinds[claims]]
    heads, chosen = heads[claims], chosen[claims]
    asked_at, asked_size = (part[claims] for part in options[_REQUESTED])
    asked = np.where(asked_size == 4, structs_at(packets.buffer, asked_at, _U32), 0)
    lease = np.where(heads["yours"] != 0, heads["yours"], np.where(asked != 0, asked, heads["client"]))
    rows["claimed_low"][:] = _mapped(lease)
    rows["target_low"][:] = _mapped(heads["client"])
    ethernet = (heads["hardware"] == 1) & (heads["hardware_size"] == 6)
    mac = heads["mac_high"].astype(np.uint64) << np.uint64(32) | heads["mac_low"]
    rows["claimed_mac"][:] = np.where(ethernet, mac, 0)
    rows["speaker_high"][:], rows["speaker_low"][:] = packets.net.src_high[chosen], packets.net.src_low[chosen]
    rows["number"][:] = heads["xid"]
    rows["text"][:] = _texts(packets.buffer, options, claims)
    return rows, bad_positions


def _mapped(address: U8 | I64) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Return the lower halves of mapped addresses; 0.0.0.0 says that there is none."""
    low = address.astype(np.uint64)
    return np.where(low != 0, low | MAPPED, np.uint64(0))


def _options(buffer: U8, at: I64, ends: I64) -> dict[int, tuple[I64, I64]]:
    """Return where the first option of each wanted code has its value, and how long that is (0: not there)."""
    found = {code: (np.zeros(len(at), np.int64), np.zeros(len(at), np.int64)) for code in _WANTED}
    at = at.copy()
    open_: Bool = np.ones(len(at), np.bool_)
    for _ in range(_MAX_OPTIONS):
        open_ &= at + 2 <= ends
        rows = np.flatnonzero(open_)
        if not len(rows):
            break
        where = at[rows]
        code, size = buffer[where].astype(np.int64), buffer[where + 1].astype(np.int64)
        size[code == _PAD] = -1
        inside = (code != _END) & (where + 2 + size <= ends[rows])
        for wanted, (starts, sizes) in found.items():
            hit = rows[inside & (code == wanted) & (sizes[rows] == 0)]
            starts[hit], sizes[hit] = at[hit] + 2, buffer[at[hit] + 1]
        open_[rows[~inside]] = False
        at[rows] += 2 + size
    return found


def _texts(buffer: U8, options: dict[int, tuple[I64, I64]], claims: I64) -> list[str]:
    """Return each message's host name, else its vendor class."""
    (name_at, name_size), (class_at, class_size) = options[_HOST_NAME], options[_VENDOR_CLASS]
    starts = np.where(name_size > 0, name_at, class_at)[claims]
    sizes = np.where(name_size > 0, name_size, class_size)[claims]
    return [
        _text(buffer[start : start + size].tobytes()) if size else ""
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)
    ]


@lru_cache(maxsize=4096)
def _text(value: bytes) -> str:
    return text(value.rstrip(b"\0"))
