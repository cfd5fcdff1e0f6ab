"""A packet socket whose packets the kernel writes into a ring that this process reads in place (TPACKET_V3).

Layouts and options: https://docs.kernel.org/networking/packet_mmap.html and <linux/if_packet.h>.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from exporter.chunks import I64, PADDING, U8
from exporter.gather import structs_at
from exporter.live_source import SourceError
from exporter.settings import PacketSettings
from exporter.sources.snap_filter import program

_SOL_PACKET, _ETH_P_ALL, _SO_ATTACH_FILTER = 263, 0x0003, 26
_RX_RING, _STATISTICS, _VERSION, _FANOUT = 5, 6, 10, 18
_TPACKET_V3 = 2
_FANOUT_HASH, _FANOUT_DEFRAG = 0, 0x8000
_USER = 1
_VLAN_VALID = 1 << 4
OUTGOING = 4

# struct tpacket3_hdr and, at its aligned end, struct sockaddr_ll.
_PACKET = np.dtype({
    "names": ["seconds", "nanoseconds", "captured", "wire", "status", "mac", "vlan", "interface", "hardware", "way"],
    "formats": ["=u4", "=u4", "=u4", "=u4", "=u4", "=u2", "=u4", "=i4", "=u2", "u1"],
    "offsets": [4, 8, 12, 16, 20, 24, 32, 52, 56, 58],
    "itemsize": 68,
})  # fmt: skip
_NEXT = struct.Struct("=I")
# In a block's descriptor: state, packets, place of the first, bytes used.
_STATE_AT, _BLOCK = 8, struct.Struct("=III")
_FRAME = 2048
# So bounded that a full ring does not cost its size several times over.
_MOST_BYTES = 4 << 20
_NO_INTERFACE = (1 << 31) - 2  # above any number


@dataclass(frozen=True)
class RingPackets:
    """Packets taken from a ring.

    Attributes:
        buffer: uint8, whole blocks one after the other, with padding behind.
        offsets: int64 (n,), first byte of each packet.
        heads: structured (n,), what the kernel says of each.
    """

    buffer: U8
    offsets: I64
    heads: npt.NDArray[Any]


class PacketRing:
    """One socket over all interfaces, of which ``watch`` chooses some.

    Raises:
        SourceError: the kernel refuses the socket or the ring.
    """

    def __init__(self, settings: PacketSettings) -> None:
        self._settings = settings
        self._blocks = settings.ring_bytes // settings.block_bytes
        self._next = 0
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except OSError as error:
            _refuse("open a packet socket", error)
        try:
            self._set_up(settings)
        except OSError as error:
            self._socket.close()
            _refuse(f"map a ring of {settings.ring_bytes} bytes", error)

    def _set_up(self, settings: PacketSettings) -> None:
        self._socket.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
        frames = settings.block_bytes // _FRAME * self._blocks
        wanted = (settings.block_bytes, self._blocks, _FRAME, frames, settings.retire_ms, 0, 0)
        self._socket.setsockopt(_SOL_PACKET, _RX_RING, struct.pack("=7I", *wanted))
        size = settings.block_bytes * self._blocks
        self._map = mmap.mmap(self._socket.fileno(), size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._bytes = np.frombuffer(self._map, np.uint8)
        words = settings.block_bytes // 4
        self._states = np.frombuffer(self._map, np.uint32)[_STATE_AT // 4 :: words]
        self.watch((), _NO_INTERFACE)
        _bind_to_all(self._socket)

    def join(self, group: int) -> None:
        """Share packets with the other rings of a group, all packets of a flow to one of them."""
        value = struct.pack("=I", group | (_FANOUT_HASH | _FANOUT_DEFRAG) << 16)
        try:
            self._socket.setsockopt(_SOL_PACKET, _FANOUT, value)
        except OSError as error:
            _refuse("join a fan-out of rings", error)

    def watch(self, interfaces: Collection[int], newest: int) -> None:
        """Take packets of these interfaces, by number, and of those that appear after the ``newest``."""
        code = program(interfaces, newest, self._settings.header_bytes, self._settings.head_bytes)
        kept = ctypes.create_string_buffer(code, len(code))
        # struct sock_fprog: number of instructions and where they are.
        self._socket.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HL", len(code) // 8, ctypes.addressof(kept))
        )

    @property
    def filled(self) -> float:
        """The share of the ring that waits to be read."""
        return float((self._states & _USER).mean())

    def take(self) -> RingPackets | None:
        """Take what is there, at most ``_MOST_BYTES``; none where nothing is. What is taken is free again."""
        pieces, places, at = [], [], 0
        while at < _MOST_BYTES:
            start = self._next * self._settings.block_bytes
            state, count, first = _BLOCK.unpack_from(self._map, start + _STATE_AT)
            if not state & _USER:
                break
            used = self._used(start)
            piece = self._bytes[start : start + used].copy()
            self._states[self._next] = 0
            self._next = (self._next + 1) % self._blocks
            places += _walk(piece, count, first, at)
            pieces.append(piece)
            at += used
        if not places:
            return None
        buffer = np.concatenate([*pieces, np.zeros(PADDING, np.uint8)])
        starts = np.array(places, np.int64)
        heads = structs_at(buffer, starts, _PACKET)
        return RingPackets(buffer, starts + heads["mac"], heads)

    def _used(self, start: int) -> int:
        """Return the bytes of a block that hold something: its length as the kernel states it."""
        return min(int(_NEXT.unpack_from(self._map, start + _STATE_AT + _BLOCK.size)[0]), self._settings.block_bytes)

    def lost(self) -> int:
        """Return the packets that found no room since the last call."""
        # struct tpacket_stats_v3: packets, drops, freezes of the queue. The kernel counts from 0 after each reading.
        _, drops, _ = struct.unpack("=III", self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 12))
        return int(drops)

    def close(self) -> None:
        """Give the ring back."""
        self._socket.close()
        del self._bytes, self._states
        self._map.close()


def vlans(heads: npt.NDArray[Any]) -> I64:
    """Return the outer VLAN ids that the kernel took off the packets; 0 without one."""
    tagged = heads["status"] & _VLAN_VALID != 0
    found: I64 = np.where(tagged, heads["vlan"] & 0x0FFF, 0).astype(np.int64)
    return found


def _walk(piece: U8, count: int, first: int, base: int) -> list[int]:
    """Return where the packets of a block begin; each says how far the next one is."""
    places: list[int] = []
    append, step, view, place = places.append, _NEXT.unpack_from, piece.data, first
    # Once per packet: nothing else belongs in here.
    for _ in range(count):
        append(place + base)
        place += step(view, place)[0]
    return places


def _bind_to_all(found: socket.socket) -> None:
    """Begin to receive from every interface, also those to come; ``socket.bind`` asks for one by name."""
    family, protocol = socket.AF_PACKET, socket.htons(_ETH_P_ALL)
    address = struct.pack("=HHiHBB8s", family, protocol, 0, 0, 0, 0, b"")
    if ctypes.CDLL(None, use_errno=True).bind(found.fileno(), address, len(address)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _refuse(what: str, error: OSError) -> NoReturn:
    problem = f"packets: cannot {what}: {error.strerror}; see 'sluicegate doctor --exporter'"
    raise SourceError(problem) from None
