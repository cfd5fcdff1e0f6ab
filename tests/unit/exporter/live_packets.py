"""Packets as a live node sees them: each at a place of observation and on a side of the node."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

import numpy as np

from exporter.chunks import LINK_ETHERNET, PADDING, CaptureReport, Interface, PacketChunk
from exporter.flow_origin import Resync
from exporter.message_stream import Identity, MessageStream
from exporter.packet_rows import PacketRows
from exporter.settings import ExporterSettings
from exporter.sides import FROM_POD, FROM_UPLINK, TO_POD, TO_UPLINK, Locality
from tests.unit.exporter.crafting import BASE, rows

# Place in the table by (interface, leaving the node?).
NAMES = ("veth-a", "veth-b", "eth0")
SIDES = ((FROM_POD, TO_POD), (FROM_POD, TO_POD), (FROM_UPLINK, TO_UPLINK))
TABLE = (
    Interface("", LINK_ETHERNET),
    *(Interface(name, LINK_ETHERNET, 1 + 2 * n, side) for n, name in enumerate(NAMES) for side in SIDES[n]),
)
Seen = tuple[float, str, bool, bytes]  # s after BASE, interface, it left the node by it, frame

NODE_ADDRESS = "10.1.0.1"


def entered(when: float, interface: str, frame: bytes) -> Seen:
    return when, interface, False, frame


def left(when: float, interface: str, frame: bytes) -> Seen:
    return when, interface, True, frame


def chunk(seen: Sequence[Seen]) -> PacketChunk:
    frames = [frame for *_, frame in seen]
    ends = np.cumsum([len(frame) for frame in frames])
    sizes = np.array([len(frame) for frame in frames], np.int64)
    buffer = np.frombuffer(b"".join(frames) + b"\0" * PADDING, np.uint8)
    times = np.array([round((BASE + when) * 1e9) for when, *_ in seen], np.int64)
    numbers = np.array([1 + 2 * NAMES.index(name) + out for _, name, out, _ in seen], np.int32)
    return PacketChunk(buffer, ends - sizes, sizes, sizes, times, numbers, TABLE)


class Node:
    """A node of the network 10.1.0.0/16, fed with packets, closing its seconds when told."""

    def __init__(self, cluster: Sequence[str] = ("10.0.0.0/8",), start: Resync | None = None) -> None:
        place = Locality([ip_network(text) for text in cluster])
        place.set_own({NODE_ADDRESS})
        settings = ExporterSettings()
        self.packets = PacketRows(settings, 7, CaptureReport(), place, start)
        identity = Identity("lab", "node", "exporter", "boot", "packets", 0, "live")
        self._stream = MessageStream(identity, settings.cut)
        self._open = 1

    def see(self, *seen: Seen) -> None:
        work = self.packets.read(chunk(seen), BASE + self._open)
        for second in work.seconds:
            assert second == BASE + self._open
            self.packets.take(work, second)

    def close(self, kind: str = "flow", *, final: bool = False) -> list[dict[str, Any]]:
        second = self.packets.close(BASE + self._open, final)
        names = [interface.name for interface in TABLE]
        made = list(self._stream.messages(BASE + self._open, second, names))
        self._open += 1
        return rows(made, kind)
