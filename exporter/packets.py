"""Packet chunk to packet columns: the whole header decode, without a loop over packets."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from exporter.chunks import I64, LINK_NAMES, U8, PacketChunk
from exporter.gather import U64, structs_at
from exporter.link_layer import ETHER_ARP, ETHER_IPV4, ETHER_IPV6, Frames, read_frames
from exporter.network_layer import Bool, Networks, read_networks

ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
_WITH_PORTS = np.zeros(256, np.bool_)
_WITH_PORTS[[TCP, UDP, 33, 132, 136]] = True  # also DCCP, SCTP, UDP-Lite
_HEADER_BYTES = np.zeros(256, np.int64)
_HEADER_BYTES[[TCP, UDP, 33, 132, 136, ICMP, ICMP6]] = [20, 8, 12, 12, 8, 8, 8]

_TRANSPORT = np.dtype([
    ("src", ">u2"), ("dst", ">u2"), ("sequence", ">u4"), ("acknowledged", ">u4"), ("size", "u1"), ("flags", "u1"),
])  # fmt: skip


@dataclass(frozen=True)
class Packets:
    """IP packets of a chunk as columns, shape (n,), in order of arrival.

    Attributes:
        buffer: the chunk's bytes.
        index: int64, position of the packet in its chunk.
        times: int64, ns since epoch.
        net: addresses, protocol, IP lengths.
        src_port, dst_port: int64; 0 where the protocol has none.
        icmp_type, icmp_code, icmp_id: int64; 0 where the packet is not ICMP, or not an echo.
        flags: uint8, TCP flags; 0 for others.
        sequence: int64, TCP sequence number; 0 for others.
        payload: int64, transport payload bytes by the IP length.
        payload_at: int64, offset of the payload in the buffer.
        payload_captured: int64, payload bytes that are in the buffer.
        vlan: int64; mac: uint64, Ethernet source; interface: int64, number in the chunk's table.
        point, side: int64, of that interface.
    """

    buffer: U8
    index: I64
    times: I64
    net: Networks
    src_port: I64
    dst_port: I64
    icmp_type: I64
    icmp_code: I64
    icmp_id: I64
    flags: U8
    sequence: I64
    payload: I64
    payload_at: I64
    payload_captured: I64
    vlan: I64
    mac: U64
    interface: I64
    point: I64
    side: I64


@dataclass
class Decoded:
    """What one chunk held.

    Attributes:
        packets: the IP packets.
        frames: link columns over all packets of the chunk.
        arp: int64, chunk positions of ARP frames.
        bad: int64, chunk positions of packets whose headers are cut off or contradict themselves.
        other: frames that are neither IP nor ARP.
        problems: link types that cannot be read.
    """

    packets: Packets
    frames: Frames
    arp: I64
    bad: I64
    other: int
    problems: list[str] = field(default_factory=list)


def decode(chunk: PacketChunk) -> Decoded:
    """Read the headers of every packet of a chunk; anything odd is counted, nothing raises."""
    frames, unknown = read_frames(chunk)
    is_v6 = frames.ether_type == ETHER_IPV6
    is_ip = is_v6 | (frames.ether_type == ETHER_IPV4)
    arp = np.flatnonzero(frames.ether_type == ETHER_ARP)
    rows = np.flatnonzero(is_ip)
    ends = chunk.offsets[rows] + chunk.captured[rows]
    wire_ends = chunk.offsets[rows] + chunk.wire[rows]
    net = read_networks(chunk.buffer, frames.network[rows], ends, wire_ends, is_v6[rows])
    packets, good = _transports(chunk, frames, rows, net, ends)
    names = [
        f"link type {t} ({LINK_NAMES.get(t, 'unknown')}) cannot be read; its packets are left out"
        for t in sorted(unknown)
    ]
    other = len(chunk) - len(rows) - len(arp)
    return Decoded(packets, frames, arp, rows[~good], other, names)


def _transports(chunk: PacketChunk, frames: Frames, rows: I64, net: Networks, ends: I64) -> tuple[Packets, Bool]:
    """Read transport headers; returns the good packets and which of ``rows`` they are."""
    start = frames.network[rows]
    rest = start + net.length - net.transport  # transport header and payload, by the IP length
    captured = ends - net.transport
    has_ports = _WITH_PORTS[net.proto] & ~net.later
    icmp = ((net.proto == ICMP) | (net.proto == ICMP6)) & ~net.later
    tcp = (net.proto == TCP) & ~net.later
    needed = np.where(tcp, 14, np.where(has_ports | icmp, 4, 0))
    # Flags of a first fragment that is shorter than the header would be another packet's bytes.
    good = net.good & (rest >= needed) & (captured >= needed)
    at = np.where(good, net.transport, 0)
    heads = structs_at(chunk.buffer, at, _TRANSPORT)
    first, second = heads["src"].astype(np.int64), heads["dst"].astype(np.int64)
    size = np.where(tcp, (heads["size"] >> 4).astype(np.int64) * 4, _HEADER_BYTES[net.proto])
    size = np.where(net.later, 0, size)
    good &= ~tcp | (size >= 20)
    identified = icmp & (captured >= 8)
    columns = {
        "src_port": first * has_ports, "dst_port": second * has_ports,
        "icmp_type": (first >> 8) * icmp, "icmp_code": (first & 255) * icmp,
        "icmp_id": (heads["sequence"] >> 16).astype(np.int64) * identified,
        "flags": heads["flags"] * tcp, "sequence": heads["sequence"].astype(np.int64) * tcp,
        "payload": np.maximum(rest - size, 0), "payload_at": at + size,
        "payload_captured": np.clip(captured - size, 0, np.maximum(rest - size, 0)),
        "vlan": frames.vlan[rows], "mac": frames.source[rows], "interface": chunk.interfaces[rows].astype(np.int64),
    }  # fmt: skip
    for name in ("point", "side"):
        of_table = np.array([getattr(interface, name) for interface in chunk.table], np.int64)
        columns[name] = of_table[columns["interface"]]
    times = chunk.times[rows]
    if good.all():
        return Packets(buffer=chunk.buffer, index=rows, times=times, net=net, **columns), good
    kept = {name: values[good] for name, values in columns.items()}
    inner = Networks(**{name: values[good] for name, values in vars(net).items()})
    return Packets(buffer=chunk.buffer, index=rows[good], times=times[good], net=inner, **kept), good
