"""A bounded capture of one interface into a pcap file, with the file's hash. Blocks until a bound is met."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from response.guard import Refusal
from response.node.captured import Captured, Ended
from schemas.node_command import Capture

# From the kernel's if_ether.h, if_packet.h, and socket.h: all protocols, packets as they are, and their times.
_ALL_PROTOCOLS, _SOL_PACKET, _PACKET_STATISTICS, _TIMESTAMP_NS = 0x0003, 263, 6, 35
_STATISTICS, _TIME = struct.Struct("II"), struct.Struct("qq")
# pcap with nanoseconds, version 2.4, Ethernet (draft-ietf-opsawg-pcap).
_FILE_HEADER = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 1 << 18, 1)
_RECORD = struct.Struct("<IIII")
# Segments that the kernel put together are larger than any packet on a wire, but not than this.
_LARGEST = 1 << 18
# Room in the kernel for what comes while a packet is written.
_RECEIVE_BYTES = 4 << 20
_PAUSE_S = 0.2


def capture(interface: str, wanted: Capture, path: Path, stopped: Callable[[], bool]) -> Captured | Refusal:
    """Write packets of an interface to a file until a bound is met, or somebody says stop.

    The file has its name only once it is complete; one that was broken off is deleted.
    """
    partial = path.with_name(f"{path.name}.part")
    try:
        with _listening(interface) as ears, _created(partial) as file:
            made = _write(ears, file, wanted, stopped)
            # How many the kernel dropped is told once, and only by the socket.
            missed = _STATISTICS.unpack(ears.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size))[1]
        partial.rename(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        remedy = " (give the container capabilities.add: [NET_RAW])" if isinstance(error, PermissionError) else ""
        return Refusal("not_captured", f"{interface}: {error.strerror or error}{remedy}")
    packets, size, digest, ended = made
    return Captured(path.name, interface, packets, size, missed, digest, ended)


def _listening(interface: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        made.setsockopt(socket.SOL_SOCKET, _TIMESTAMP_NS, 1)
        made.bind((interface, _ALL_PROTOCOLS))
        made.settimeout(_PAUSE_S)
    except BaseException:
        made.close()
        raise
    return made


def _created(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb")


def _write(
    ears: socket.socket, file: BinaryIO, wanted: Capture, stopped: Callable[[], bool]
) -> tuple[int, int, str, Ended]:
    """Packets, bytes, hash of the file, and which bound ended it."""
    digest = hashlib.sha256(_FILE_HEADER)
    file.write(_FILE_HEADER)
    packets, size = 0, len(_FILE_HEADER)
    deadline = time.monotonic() + wanted.seconds
    ended: Ended = "packets"
    while packets < wanted.packets:
        if stopped() or time.monotonic() >= deadline:
            ended = "stopped" if stopped() else "time"
            break
        try:
            data, notes, _, _ = ears.recvmsg(_LARGEST, socket.CMSG_SPACE(_TIME.size))
        except TimeoutError:
            continue
        record = _record(data, notes)
        if size + len(record) > wanted.bytes:
            ended = "bytes"
            break
        file.write(record)
        digest.update(record)
        packets, size = packets + 1, size + len(record)
    file.flush()
    os.fsync(file.fileno())
    return packets, size, digest.hexdigest(), ended


def _record(data: bytes, notes: list[tuple[int, int, bytes]]) -> bytes:
    at = next((text for level, kind, text in notes if (level, kind) == (socket.SOL_SOCKET, _TIMESTAMP_NS)), b"")
    seconds, nanoseconds = _TIME.unpack(at) if len(at) == _TIME.size else (0, 0)
    return _RECORD.pack(seconds, nanoseconds, len(data), len(data)) + data
