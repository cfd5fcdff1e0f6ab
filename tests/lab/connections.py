"""Numbered TCP connections between namespaces, and what each side counted: what an exporter is measured by.

python -m tests.lab.connections serve PLAN OUT      until SIGTERM
python -m tests.lab.connections connect PLAN OUT

A plan is JSON. Serving: ``{"port": 8000, "spaces": [...]}``. Connecting: ``{"routes": [[space, address, port], ...],
"count": n, "rate": per second, "seed": 1, "port": 10000}``; connection i takes route i modulo their number, and a port
from that on that no other connection of its namespace has. Both write one ``Counted`` a line, as a JSON array.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.lab.namespaces import inside, listener

_SIZES = struct.Struct("!II")  # of the rest of the question, of the answer
_THREADS = 8
_BLOCK = b"x" * 65_536
_TIMEOUT_S = 30.0
FIRST_PORT, LAST_PORT = 10_000, 65_000


class Counted(NamedTuple):
    """One connection as one side counted it; times in ns since epoch."""

    src: str
    src_port: int
    dst: str
    dst_port: int
    asked: int  # payload bytes of the initiator
    answered: int  # and of the responder
    began: int
    ended: int


def _read(peer: socket.socket, size: int) -> int:
    got = 0
    while got < size:
        data = peer.recv(min(65_536, size - got))
        if not data:
            break
        got += len(data)
    return got


def _write(peer: socket.socket, size: int) -> None:
    for start in range(0, size, len(_BLOCK)):
        peer.sendall(_BLOCK[: min(len(_BLOCK), size - start)])


def _serve_one(listening: socket.socket, counted: list[Counted]) -> None:
    while True:
        with listening.accept()[0] as peer, suppress(OSError):
            peer.settimeout(_TIMEOUT_S)
            began = time.time_ns()
            (asker, asker_port), (own, own_port) = peer.getpeername(), peer.getsockname()
            asked, wanted = _SIZES.unpack(peer.recv(_SIZES.size, socket.MSG_WAITALL))
            got = _SIZES.size + _read(peer, asked)
            _write(peer, wanted)
            counted.append(Counted(asker, asker_port, own, own_port, got, wanted, began, time.time_ns()))


def serve(plan: dict[str, Any]) -> list[Counted]:
    """Answer in every namespace until SIGTERM."""
    counted: list[Counted] = []
    for space in plan["spaces"]:
        threading.Thread(target=_serve_one, args=(listener(space, plan["port"]), counted), daemon=True).start()
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    print("ready", flush=True)
    done.wait()
    return counted


def _connect_one(space: str, address: str, port: int, own_port: int, asked: int, wanted: int) -> Counted:
    began = time.time_ns()
    with inside(space):
        peer = socket.socket()
    with peer:
        peer.settimeout(_TIMEOUT_S)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        peer.bind(("", own_port))
        peer.connect((address, port))
        own, _ = peer.getsockname()
        peer.sendall(_SIZES.pack(asked, wanted) + _BLOCK[:asked])
        got = _read(peer, wanted + 1)  # one more, so that the other side's end is waited for
    return Counted(own, own_port, address, port, _SIZES.size + asked, got, began, time.time_ns())


def _ports(spaces: Sequence[str], first: int) -> list[int]:
    used: Counter[str] = Counter()
    ports = []
    for space in spaces:
        ports.append(first + used[space])
        used[space] += 1
    if ports and max(ports) > LAST_PORT:
        problem = f"more than {LAST_PORT - first} connections from one namespace"
        raise ValueError(problem)
    return ports


def connect(plan: dict[str, Any]) -> list[Counted]:
    """Make the connections; raises what the first that failed raised."""
    routes: Sequence[tuple[str, str, int]] = plan["routes"]
    count, rate = int(plan["count"]), float(plan["rate"])
    ports = _ports([routes[number % len(routes)][0] for number in range(count)], int(plan["port"]))
    counted: list[Counted] = []
    failed: list[BaseException] = []
    begin = time.monotonic()

    def work(first: int) -> None:
        try:
            for number in range(first, count, _THREADS):
                chance = random.Random(plan["seed"] * 1_000_003 + number)
                time.sleep(max(0.0, begin + number / rate - time.monotonic()))
                # One in fifty is large.
                wanted = chance.randrange(200_000 if chance.random() < 0.02 else 4_000)
                asked = chance.randrange(2_000)
                counted.append(_connect_one(*routes[number % len(routes)], ports[number], asked, wanted))
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return counted


def read_counts(path: Path) -> list[Counted]:
    """Return what ``serve`` or ``connect`` wrote."""
    return [Counted(*json.loads(line)) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[2]).read_text())
    lines = (json.dumps(each) for each in (serve if sys.argv[1] == "serve" else connect)(given))
    partial = Path(f"{sys.argv[3]}.partial")
    partial.write_text("".join(f"{line}\n" for line in lines))
    partial.replace(sys.argv[3])
