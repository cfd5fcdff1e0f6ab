"""Sockets in several network namespaces from one process: a socket stays where it was made."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Make this thread's new sockets in the namespace of that name (``ip netns``)."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        there = os.open(f"/run/netns/{name}", os.O_RDONLY)
        try:
            _enter(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _enter(here)
    finally:
        os.close(here)


def listener(name: str, port: int, address: str = "") -> socket.socket:
    """Return a listening TCP socket in a namespace."""
    with inside(name):
        return socket.create_server((address, port), backlog=4096)
