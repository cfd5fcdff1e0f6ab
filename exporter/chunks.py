"""What every packet source hands over: a run of packets in one buffer, as columns.

Files, pipes and live sockets all produce ``PacketChunk``; everything after it is the same code.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from schemas.inventory import InventoryObject

# Header gathers read this far past a packet's start without asking; buffers end with that many spare bytes.
PADDING = 128

# https://www.tcpdump.org/linktypes.html
LINK_NULL = 0
LINK_ETHERNET = 1
LINK_RAW_BSD = 12
LINK_RAW_OPENBSD = 14
LINK_RAW = 101
LINK_LOOP = 108
LINK_COOKED = 113
LINK_IPV4 = 228
LINK_IPV6 = 229
LINK_COOKED2 = 276

LINK_NAMES = {
    LINK_NULL: "BSD loopback", LINK_ETHERNET: "Ethernet", LINK_RAW_BSD: "raw IP", LINK_RAW_OPENBSD: "raw IP",
    LINK_RAW: "raw IP", LINK_LOOP: "OpenBSD loopback", LINK_COOKED: "Linux cooked v1", LINK_IPV4: "raw IPv4",
    LINK_IPV6: "raw IPv6", LINK_COOKED2: "Linux cooked v2",
}  # fmt: skip

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Interface:
    """Where packets were captured, and in which direction they passed there.

    Attributes:
        name: empty where the source has none.
        link_type: of the packets, a number of the list above.
        point: number of the place of observation; flows seen at different places are told apart. 0: the source is
            one place, whatever its interfaces.
        side: by which side of the node the packets came or went; a number of ``exporter.sides``, 0 where unknown.
    """

    name: str
    link_type: int
    point: int = 0
    side: int = 0


@dataclass(frozen=True)
class PacketChunk:
    """A run of packets.

    Attributes:
        buffer: uint8, holds all packets and at least ``PADDING`` bytes after the last one.
        offsets: int64 (n,), first byte of each packet in ``buffer``.
        captured: int64 (n,), bytes of each packet that are in ``buffer``.
        wire: int64 (n,), bytes each packet had on the wire.
        times: int64 (n,), ns since epoch.
        interfaces: int32 (n,), index into ``table``.
        table: the interfaces known so far.
        lost: packets that the source dropped before this chunk.
        vlans: int64 (n,), outer VLAN id that the kernel took off the packet, 0 without one; None: left in the packet.
    """

    buffer: U8
    offsets: I64
    captured: I64
    wire: I64
    times: I64
    interfaces: I32
    table: tuple[Interface, ...]
    lost: int = 0
    vlans: I64 | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    def part(self, start: int, stop: int) -> PacketChunk:
        """Return packets ``start`` to ``stop``, on the same buffer; the losses stay with the first part."""
        span = slice(start, stop)
        return PacketChunk(
            self.buffer, self.offsets[span], self.captured[span], self.wire[span], self.times[span],
            self.interfaces[span], self.table, self.lost if start == 0 else 0,
            None if self.vlans is None else self.vlans[span],
        )  # fmt: skip

    def in_time_order(self) -> PacketChunk:
        """Return the same packets sorted by time; equal times keep their order."""
        if len(self) < 2 or bool((self.times[1:] >= self.times[:-1]).all()):
            return self
        order = np.argsort(self.times, kind="stable")
        return PacketChunk(
            self.buffer, self.offsets[order], self.captured[order], self.wire[order], self.times[order],
            self.interfaces[order], self.table, self.lost, None if self.vlans is None else self.vlans[order],
        )  # fmt: skip


@dataclass
class CaptureReport:
    """What happened while a capture was read; filled as it is read.

    Attributes:
        name: the file, ``-`` for standard input.
        packets: packets read.
        bytes: bytes of them on the wire.
        first: time of the first packet, ns since epoch; 0 before it.
        last: latest time, ns since epoch.
        late: packets older than a second already closed; counted in the second then open.
        malformed: packets or DNS messages that could not be parsed.
        other: packets that are neither IP nor ARP.
        lost_rows: rows and flows shed at a limit.
        records: lines or records of a flow log that became rows.
        repeated: records left out because another node or interface told the same.
        identities: who had which address by what was read; whoever uses them empties the list.
        problems: one line each: truncated tail, unsupported link type, disorder.
    """

    name: str = ""
    packets: int = 0
    bytes: int = 0
    first: int = 0
    last: int = 0
    late: int = 0
    malformed: int = 0
    other: int = 0
    lost_rows: int = 0
    records: int = 0
    repeated: int = 0
    identities: list[InventoryObject] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def note(self, problem: str) -> None:
        """Remember a problem once, at most 100 different ones."""
        if problem not in self.problems and len(self.problems) < 100:
            self.problems.append(problem)
