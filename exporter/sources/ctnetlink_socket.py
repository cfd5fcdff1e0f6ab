"""Hearing of tracked connections (ctnetlink), and asking for all of them."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator

import numpy as np

from exporter.chunks import I64, U8
from exporter.sources.ctnetlink import HEADER, STATUS, TRANSLATED

# <linux/netfilter/nfnetlink.h>, <linux/netlink.h>, <asm-generic/socket.h>
_NETFILTER, _SUBSYSTEM, _GET = 12, 1, 1
_STATUS_MASK = 26
_GROUPS = (1, 3)  # NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_DESTROY
_ERROR, _DONE = 2, 3
_DUMP = 0x1 | 0x300  # NLM_F_REQUEST, NLM_F_DUMP
_SO_ATTACH_FILTER, _SO_MEMINFO, _DROPS, _SO_RCVBUFFORCE, _SOL_NETLINK, _ADD_MEMBERSHIP = 26, 55, 8, 33, 270, 1
_SLOT, _SLOTS = 1024, 256  # bytes of a message that are looked at, messages taken at once
_DUMP_BYTES, _SOCKET_BYTES = 1 << 18, 8 << 20

# struct mmsghdr of 64-bit systems.
_MESSAGE = np.dtype([
    ("name", "u8"), ("name_size", "u8"), ("vector", "u8"), ("vectors", "u8"), ("control", "u8"),
    ("control_size", "u8"), ("flags", "u8"), ("size", "u4"), ("pad", "u4"),
])  # fmt: skip


def _translated_only() -> bytes:
    """A socket filter: messages whose status says that the connection is translated, and those without a status."""
    nlattr = 0xFFFFF000 + 12  # SKF_AD_OFF + SKF_AD_NLATTR: from A on, the place of the attribute of type X
    code = [
        (0x00, 0, 0, HEADER), (0x01, 0, 0, STATUS), (0x20, 0, 0, nlattr), (0x15, 3, 0, 0), (0x07, 0, 0, 0),
        (0x40, 0, 0, 4), (0x45, 0, 1, TRANSLATED), (0x06, 0, 0, 0xFFFFFFFF), (0x06, 0, 0, 0),
    ]  # fmt: skip
    return b"".join(struct.pack("=HBBI", *line) for line in code)


class ConnectionSocket:
    """Hears of connections from when it is made.

    Args:
        translated: only of those that NAT changes; the kernel leaves out the others.

    Raises:
        OSError: the kernel refuses.
    """

    def __init__(self, translated: bool) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _SOCKET_BYTES)
            if translated:
                program = _translated_only()
                held = ctypes.create_string_buffer(program)
                filtering = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(held))
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtering)
            self._socket.bind((0, 0))
            for group in _GROUPS:
                self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except OSError:
            self._socket.close()
            raise
        self._slots: U8 = np.zeros((_SLOTS, _SLOT), np.uint8)
        self._vectors = np.zeros((_SLOTS, 2), np.uint64)
        self._vectors[:, 0] = self._slots.ctypes.data + np.arange(_SLOTS, dtype=np.uint64) * np.uint64(_SLOT)
        self._vectors[:, 1] = _SLOT
        self._messages = np.zeros(_SLOTS, _MESSAGE)
        self._messages["vector"] = self._vectors.ctypes.data + np.arange(_SLOTS, dtype=np.uint64) * np.uint64(16)
        self._messages["vectors"] = 1
        self._library = ctypes.CDLL(None, use_errno=True)

    def events(self) -> Iterator[tuple[U8, I64]]:
        """Give what has happened as ``ConnectionMessages`` takes it, without waiting; use each before the next.

        Raises:
            OSError: ENOBUFS: more happened than the socket held.
        """
        while True:
            count = self._library.recvmmsg(
                self._socket.fileno(), ctypes.c_void_p(self._messages.ctypes.data), _SLOTS, socket.MSG_DONTWAIT, None
            )
            if count < 0:
                number = ctypes.get_errno()
                if number in (errno.EAGAIN, errno.EINTR):
                    return
                raise OSError(number, os.strerror(number))
            yield self._slots[:count], np.minimum(self._messages["size"][:count].astype(np.int64), _SLOT)
            if count < _SLOTS:
                return

    def dropped(self) -> int:
        """Return how many messages the kernel had no room for, so far."""
        raw = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36)
        return int(struct.unpack_from("=9I", raw)[_DROPS])

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


def everything(status: int = 0) -> Iterator[tuple[U8, I64]]:
    """Give every connection that there is, as ``ConnectionMessages`` takes it.

    Args:
        status: only those with these bits of the status; kernels before 5.15 give all.

    Raises:
        OSError: the kernel refuses.
    """
    chosen = b"".join(struct.pack("=HH", 8, kind) + struct.pack("!I", status) for kind in (STATUS, _STATUS_MASK))
    chosen = chosen if status else b""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER) as asking:
        asking.bind((0, 0))
        head = struct.pack("=IHHIIBBH", HEADER + len(chosen), _SUBSYSTEM << 8 | _GET, _DUMP, 1, 0, 0, 0, 0)
        asking.send(head + chosen)
        while True:
            data = asking.recv(_DUMP_BYTES)
            begins, sizes, done = _split(data)
            if begins:
                padded = np.frombuffer(data + bytes(_SLOT), np.uint8)
                yield padded[np.array(begins)[:, None] + np.arange(_SLOT)], np.minimum(np.array(sizes), _SLOT)
            if done:
                return


def _split(data: bytes) -> tuple[list[int], list[int], bool]:
    begins: list[int] = []
    sizes: list[int] = []
    at = 0
    while at + 16 <= len(data):
        size, kind = struct.unpack_from("=IH", data, at)
        if kind == _DONE or size < 16:
            return begins, sizes, True
        if kind == _ERROR:
            number = -struct.unpack_from("=i", data, at + 16)[0]
            raise OSError(number, os.strerror(number))
        begins.append(at)
        sizes.append(size)
        at += size + -size % 4
    return begins, sizes, False
