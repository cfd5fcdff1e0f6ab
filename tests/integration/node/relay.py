"""A door in a namespace to a broker outside it: the agent must run on the node, whose network reaches nobody."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_CLONE_NEWNET = 0x40000000


def listen_in(space: str, port: int) -> socket.socket:
    """A socket that listens on loopback of a network namespace; only this thread goes there, and it comes back."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(Path("/run/netns") / space, os.O_RDONLY)
    try:
        if libc.setns(there, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {space}")
        try:
            return socket.create_server(("127.0.0.1", port))
        finally:
            if libc.setns(home, _CLONE_NEWNET) != 0:
                os._exit(70)
    finally:
        os.close(home)
        os.close(there)


class Relay:
    """Carries bytes between a port in a namespace and the same port here; a context manager."""

    def __init__(self, space: str, port: int) -> None:
        self._listener = listen_in(space, port)
        self._port = port
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in (self._listener, *self._open):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join(5)
        for one in (self._listener, *self._open):
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._port), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                thread = threading.Thread(target=_carry, args=(source, sink), daemon=True)
                self._threads.append(thread)
                thread.start()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for one in (source, sink):
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue
