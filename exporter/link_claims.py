"""Claims about who has which address or which way to go: ARP, DHCP, ICMP and neighbour discovery."""

from __future__ import annotations

import numpy as np

from exporter.arp_claims import read_arp
from exporter.chunks import I64, PacketChunk
from exporter.dhcp_claims import read_dhcp
from exporter.icmp_claims import read_icmp
from exporter.link_block import LinkBlock, in_order
from exporter.packets import Decoded


def read_claims(chunk: PacketChunk, decoded: Decoded) -> tuple[LinkBlock, I64]:
    """Return the link rows of a chunk in order of arrival, and the chunk positions of malformed claims."""
    arp, good = read_arp(chunk, decoded.frames, decoded.arp)
    dhcp, bad_dhcp = read_dhcp(chunk, decoded.frames, decoded.packets)
    icmp, bad_icmp = read_icmp(chunk, decoded.frames, decoded.packets)
    filled = [block for block in (arp, dhcp, icmp) if len(block["position"])] or [arp]
    rows = filled[0] if len(filled) == 1 else in_order(filled)
    return rows, np.concatenate([decoded.arp[~good], bad_dhcp, bad_icmp])
