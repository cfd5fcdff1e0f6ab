"""A port of the machine's loopback, reachable at the same address inside a namespace: how a lab's node gets to Kafka.

No interface joins the two: a thread pair copies bytes between a socket of each side.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.lab.namespaces import listener


class Tunnel:
    """Listens on 127.0.0.1 in a namespace and connects to the same port outside it; a context manager."""

    def __init__(self, space: str, port: int) -> None:
        self._port = port
        self._listening = listener(space, port, "127.0.0.1")
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in [self._listening, *self._open]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                inner = self._listening.accept()[0]
            except OSError:
                return
            try:
                outer = socket.create_connection(("127.0.0.1", self._port), timeout=5)
            except OSError:
                inner.close()
                continue
            outer.settimeout(None)
            self._open |= {inner, outer}
            for source, target in ((inner, outer), (outer, inner)):
                threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 18):
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            self._open.discard(each)
            each.close()
