"""ARP frames to link rows (RFC 826: Ethernet and IPv4 only)."""

from __future__ import annotations

import numpy as np

from exporter.chunks import I64, PacketChunk
from exporter.gather import structs_at
from exporter.link_block import MAPPED, LinkBlock, frame_columns
from exporter.link_layer import Frames
from exporter.network_layer import Bool
from schemas.events import LinkClaim

_ARP = np.dtype([
    ("hardware", ">u2"), ("protocol", ">u2"), ("hardware_size", "u1"), ("protocol_size", "u1"), ("operation", ">u2"),
    ("sender_high", ">u2"), ("sender_low", ">u4"), ("sender", ">u4"), ("target_mac", "V6"), ("target", ">u4"),
])  # fmt: skip
_REQUEST, _REPLY = 1, 2


def read_arp(chunk: PacketChunk, frames: Frames, positions: I64) -> tuple[LinkBlock, Bool]:
    """Return link columns for ARP frames given by chunk position, and which frames are well formed.

    The columns hold only well-formed frames.
    """
    at = frames.network[positions]
    whole = at + _ARP.itemsize <= chunk.offsets[positions] + chunk.captured[positions]
    heads = structs_at(chunk.buffer, np.where(whole, at, 0), _ARP)
    good = whole & (heads["hardware"] == 1) & (heads["protocol"] == 0x0800)
    good &= (heads["hardware_size"] == 6) & (heads["protocol_size"] == 4)
    good &= (heads["operation"] == _REQUEST) | (heads["operation"] == _REPLY)
    heads = heads[good]
    rows = frame_columns(chunk, frames, positions[good])
    rows["claim"][:] = np.where(heads["operation"] == _REQUEST, LinkClaim.ARP_REQUEST, LinkClaim.ARP_REPLY)
    rows["claimed_mac"][:] = heads["sender_high"].astype(np.uint64) << np.uint64(32) | heads["sender_low"]
    rows["claimed_low"][:] = heads["sender"].astype(np.uint64) | MAPPED
    rows["target_low"][:] = heads["target"].astype(np.uint64) | MAPPED
    return rows, good
