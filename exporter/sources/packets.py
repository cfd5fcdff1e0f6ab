"""Live packets of this node's pods and uplinks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from exporter.chunks import I64, LINK_ETHERNET, CaptureReport, Interface, PacketChunk
from exporter.flow_origin import Resync
from exporter.live_source import SourceState
from exporter.packet_rows import PacketRows, Work
from exporter.privileges import Privilege
from exporter.second import Second
from exporter.settings import ExporterSettings
from exporter.sides import FROM_POD, FROM_UPLINK, TO_POD, TO_UPLINK, Locality
from exporter.sources.conntrack import ConntrackSource
from exporter.sources.interfaces import Interfaces, Link
from exporter.sources.packet_ring import OUTGOING, PacketRing, RingPackets, vlans
from exporter.translated_rows import translated
from schemas.events import CAPTURE_CAPABILITIES, Capability

_SECOND = 1_000_000_000
_AHEAD = _SECOND  # ns that a packet's time may be after now
_NOWHERE = Interface("", LINK_ETHERNET)
_BUSY = 0.2


class PacketSource:
    """AF_PACKET on the host's side of every pod's interface, and on uplinks.

    Args:
        settings: of the exporter.
        node_hash: tells flow ids of nodes apart.
        began: when the exporter starts, ns since epoch; flows without a beginning are older for a while.
    """

    name: ClassVar[str] = "packets"
    capabilities: Capability = CAPTURE_CAPABILITIES | Capability.INTERFACES
    notes: tuple[str, ...] = ()
    needs: ClassVar[frozenset[Privilege]] = frozenset({Privilege.CAP_NET_RAW})
    # The socket is bound to all interfaces, so those that appear later need no new one.
    keeps: ClassVar[frozenset[Privilege]] = frozenset()

    def __init__(self, settings: ExporterSettings, node_hash: int, began: int) -> None:
        self._settings = settings
        self._place = Locality(settings.packets.cluster_networks)
        self._report = CaptureReport(name=self.name)
        self._rings: list[PacketRing] = []
        self._links: Interfaces | None = None
        old = Resync(
            began + settings.flow.tcp_idle_seconds * _SECOND, began + settings.packets.resync_seconds * _SECOND
        )
        self._rows = PacketRows(settings, node_hash, self._report, self._place, old)
        self._table: list[Interface] = [_NOWHERE]
        self._numbers: dict[
            int, tuple[Link, int]
        ] = {}  # by the kernel's number: place of the incoming side in the table
        self._free: list[int] = []
        self._leaving: list[int] = []
        self._resting: list[int] = []
        self._later: list[tuple[Work, list[int]]] = []
        self._lost = self._lost_before = 0
        self._conntrack: ConntrackSource | None = None

    def translate_by(self, conntrack: ConntrackSource) -> None:
        """Join what that source, which is opened and shut beside this one, hears of NAT to the flows."""
        self._conntrack = conntrack
        self._place.translations = conntrack.translations

    @property
    def interfaces(self) -> Sequence[str]:
        """Names of the numbers in interface columns."""
        return [interface.name for interface in self._table]

    @property
    def next_due(self) -> int | None:
        """The next cut at which something is to be done."""
        due = self._rows.next_due
        return 0 if self._later else due

    @property
    def busy(self) -> bool:
        """A good part of a ring waits."""
        return any(ring.filled > _BUSY for ring in self._rings)

    def open(self) -> None:
        """Map the rings, list the interfaces, begin to listen."""
        settings = self._settings.packets
        try:
            for _ in range(settings.rings):
                self._rings.append(PacketRing(settings))
            if len(self._rings) > 1:
                for ring in self._rings:
                    ring.join(os.getpid() & 0xFFFF)
            self._links = Interfaces(settings)
            self._follow()
        except BaseException:
            self.shut()
            raise

    def _follow(self) -> None:
        """Watch the interfaces that there are now."""
        links = self._links
        if links is None:
            return
        for number, (link, _) in list(self._numbers.items()):
            if links.links.get(number) != link:
                self._leaving.append(self._numbers.pop(number)[1])
        for number, link in links.links.items():
            if number not in self._numbers:
                self._numbers[number] = (link, self._enter(link))
        self._place.set_own(links.addresses)
        self._place.sees_outside = any(link.uplink for link in links.links.values())
        for ring in self._rings:
            ring.watch(self._numbers, links.newest)

    def _enter(self, link: Link) -> int:
        """Put both directions of an interface into the table; returns the place of the first."""
        sides = (FROM_UPLINK, TO_UPLINK) if link.uplink else (FROM_POD, TO_POD)
        at = self._free.pop() if self._free else len(self._table)
        entries = [Interface(link.name, LINK_ETHERNET, at, side) for side in sides]
        self._table[at : at + 2] = entries
        return at

    def collect(self, cut: int, now: int) -> None:
        """Empty the rings."""
        if self._links is not None and self._links.update():
            self._follow()
        taken = [packets for ring in self._rings if (packets := ring.take()) is not None]
        if self._conntrack is not None:
            # After the packets: a connection is translated before a packet of it leaves the node.
            self._conntrack.update(cut)
        for chunk in self._chunks(taken, now):
            work = self._rows.read(chunk, cut)
            self._later.append((work, work.seconds))
        self._take(cut)

    def _chunks(self, taken: Sequence[RingPackets], now: int) -> list[PacketChunk]:
        size = self._settings.reading.chunk_packets
        whole = [chunk for packets in taken if (chunk := self._chunk(packets, now)) is not None]
        parts = [chunk.part(at, at + size) for chunk in whole for at in range(0, len(chunk), size)]
        # Rings are emptied one after the other; their packets came side by side.
        return sorted(parts, key=lambda part: int(part.times[0]))

    def _chunk(self, packets: RingPackets, now: int) -> PacketChunk | None:
        heads = packets.heads
        where = self._places(heads["interface"].astype(np.int64))
        known = where > 0
        if not known.any():
            return None
        heads, offsets = heads[known], packets.offsets[known]
        times = heads["seconds"].astype(np.int64) * _SECOND + heads["nanoseconds"].astype(np.int64)
        numbers = where[known] + (heads["way"] == OUTGOING)
        return PacketChunk(
            packets.buffer, offsets, heads["captured"].astype(np.int64), heads["wire"].astype(np.int64),
            np.minimum(times, now + _AHEAD), numbers.astype(np.int32), tuple(self._table), vlans=vlans(heads),
        ).in_time_order()  # fmt: skip

    def _places(self, numbers: I64) -> I64:
        """Return places in the table from the kernel's numbers; 0 for interfaces that are not watched."""
        if not self._numbers:
            return np.zeros(len(numbers), np.int64)
        known = np.array(sorted(self._numbers), np.int64)
        places = np.array([self._numbers[number][1] for number in known.tolist()], np.int64)
        at = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
        found: I64 = np.where(known[at] == numbers, places[at], 0)
        return found

    def _take(self, cut: int) -> None:
        """Add what is read up to a second; the rest stays, in order."""
        for work, seconds in self._later:
            while seconds and seconds[0] <= cut:
                self._rows.take(work, seconds.pop(0))
        self._later = [entry for entry in self._later if entry[1]]

    def close(self, cut: int, final: bool = False) -> Second:
        """End a second; interfaces that are gone take their flows with them."""
        self._take(cut)
        gone, self._leaving = self._leaving, []
        self._rows.forget_interfaces([number for at in gone + self._resting for number in (at, at + 1)])
        second = self._rows.close(cut, final)
        if self._conntrack is not None:
            second.flows = translated(second.flows, self._conntrack.translations)
        # Packets that came before they went may still wait for the next second, so others get their places after it.
        self._free += self._resting
        self._resting = gone
        self._count_losses()
        second.lost_packets, self._lost_before = self._lost - self._lost_before, self._lost
        return second

    def _count_losses(self) -> None:
        self._lost += sum(ring.lost() for ring in self._rings)

    def state(self) -> SourceState:
        """Return how it stands."""
        names = [link.name for link, _ in self._numbers.values()]
        return SourceState(self._report.packets, self._lost, names, list(self._report.problems))

    def shut(self) -> None:
        """Give back rings and sockets."""
        for ring in self._rings:
            ring.close()
        self._rings.clear()
        if self._links is not None:
            self._links.shut()
            self._links = None
