"""Ports of this host's loopback in another network namespace: `python -m tests.e2e.enforcement.relay NAME PORT…`.

The API server and the broker of a session listen on loopback alone. A socket belongs for ever to the namespace in which
it was made, so one process can listen there and connect here, and no interface joins the two.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_CHUNK = 1 << 16
READY = "ready"


def listeners(namespace: str, ports: Sequence[int]) -> list[socket.socket]:
    """Listening sockets on loopback of a named namespace; the caller is back in its own afterwards.

    Raises:
        OSError: the namespace does not exist, or a port is taken there.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/self/ns/net").open("rb") as home, Path("/run/netns", namespace).open("rb") as away:
        _enter(libc, away.fileno())
        try:
            return [socket.create_server(("127.0.0.1", port), backlog=64) for port in ports]
        finally:
            _enter(libc, home.fileno())


def _enter(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def _serve(listener: socket.socket) -> None:
    port = listener.getsockname()[1]

    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        for end in (writer, far_writer):
            end.close()

    server = await asyncio.start_server(joined, sock=listener)
    await server.serve_forever()


async def _run(sockets: Sequence[socket.socket]) -> None:
    print(READY, flush=True)
    await asyncio.gather(*(_serve(listener) for listener in sockets))


if __name__ == "__main__":
    asyncio.run(_run(listeners(sys.argv[1], [int(word) for word in sys.argv[2:]])))
