"""Conversations between namespaces that say of every question when it was asked and whether it was answered."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.lab.lab import Lab, wait_for

PORT = 8100
OTHER_PORT = 8200

_SERVER = f"""
import asyncio
async def answer(reader, writer):
    while data := await reader.read(99):
        writer.write(data)
async def serve():
    servers = [await asyncio.start_server(answer, None, port, backlog=1024) for port in ({PORT}, {OTHER_PORT})]
    print("ready", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))
asyncio.run(serve())
"""

# One connection for all questions; a question that is lost leaves the connection as it is.
_TALK = """
import socket, sys, time
address, port = sys.argv[1], int(sys.argv[2])
peer = socket.create_connection((address, port), timeout=5)
peer.settimeout(0.4)
while True:
    asked = time.time()
    try:
        peer.send(b"a")
        word = "ok" if peer.recv(99) else "closed"
    except TimeoutError:
        word = "lost"
    print(asked, word, flush=True)
    if word == "closed":
        break
    time.sleep(0.02)
"""

# Many connections at once; how many came about within two seconds.
_OPEN = """
import asyncio, sys
address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
async def one():
    try:
        async with asyncio.timeout(0.8):
            reader, writer = await asyncio.open_connection(address, port)
    except (TimeoutError, OSError):
        return False
    writer.close()
    return True
async def every():
    print(sum(await asyncio.gather(*(one() for _ in range(count)))))
asyncio.run(every())
"""


def wall() -> float:
    """s since epoch, the clock that all namespaces and the kernel's time-outs share."""
    return time.time_ns() / 1e9


@dataclass(frozen=True)
class Question:
    """When it was asked (s since epoch), and what became of it: ok, lost or closed."""

    asked: float
    word: str


def serve(lab: Lab, where: str) -> None:
    """Echo on both ports of a pod, on both versions of IP."""
    server = lab.start(where, [sys.executable, "-c", _SERVER], stdout=subprocess.PIPE)
    assert server.stdout is not None
    with server.stdout as out:
        assert out.readline() == b"ready\n"


class Conversation:
    """One connection, held open, with a question every 20 ms."""

    def __init__(self, lab: Lab, folder: Path, where: str, address: str, port: int = PORT) -> None:
        self._file = folder / f"talk-{time.monotonic_ns()}"
        with self._file.open("wb") as out:
            lab.start(where, [sys.executable, "-c", _TALK, address, str(port)], stdout=out.fileno())
        wait_for(lambda: len(self.since(0.0)) >= 5, f"{where} to talk to {address}")

    def since(self, moment: float) -> list[Question]:
        """Questions asked at or after a moment, in order."""
        lines = [line.split() for line in self._file.read_text().splitlines()]
        found = [Question(float(line[0]), line[1]) for line in lines if len(line) == 2]
        return [question for question in found if question.asked >= moment]

    def wait_for(self, word: str, since: float, count: int = 3, seconds: float = 20.0) -> None:
        """Wait until so many questions since a moment came out this way."""
        wait_for(lambda: sum(q.word == word for q in self.since(since)) >= count, f"{count} questions {word}", seconds)


def open_many(lab: Lab, where: str, address: str, count: int, port: int = PORT) -> int:
    """How many of so many connections, opened at once, come about."""
    return int(lab.run(where, [sys.executable, "-c", _OPEN, address, str(port), str(count)]))
