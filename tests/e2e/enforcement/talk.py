"""What talks in the lab's pods: `python -m tests.e2e.enforcement.talk serve|fresh|held|asks|once …`.

    serve PORT                  answers each byte with itself, over both families
    fresh ADDRESS PORT EVERY    a new connection every so many s: one byte there and back
    held ADDRESS PORT EVERY     one connection for ever, one byte there and back every so many s
    asks ADDRESS PORT EVERY     a question for an address to a name server, each from a port of its own
    once ADDRESS PORT …         one new connection to each, at the same time; prints the words alone, in order

Clients print a line per exchange: start and end in ns since the epoch, and one word of what became of it. A drop is
known only when the time-out is over, so it is dated by its start.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

TIMEOUT_S = 0.4
OK, REFUSED, TIMEOUT, BROKEN = "ok", "refused", "timeout", "broken"
# Closing by RST leaves nothing in TIME_WAIT on either side, however long the prober runs.
_RESET = struct.pack("ii", 1, 0)


def serve(port: int) -> None:
    """Answer for ever, a thread per connection."""
    listener = socket.create_server(("::", port), family=socket.AF_INET6, backlog=256, dualstack_ipv6=True)
    while True:
        peer = listener.accept()[0]
        threading.Thread(target=_answer, args=(peer,), daemon=True).start()


def _answer(peer: socket.socket) -> None:
    with peer, suppress(OSError):
        while data := peer.recv(4096):
            peer.sendall(data)


def _word(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return TIMEOUT
    return REFUSED if isinstance(error, ConnectionRefusedError) else BROKEN


def fresh(address: str, port: int) -> str:
    """One new connection and one exchange; what became of it."""
    try:
        with socket.create_connection((address, port), timeout=TIMEOUT_S) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            peer.sendall(b".")
            return OK if peer.recv(1) == b"." else BROKEN
    except OSError as error:
        return _word(error)


# "The address of web.shop.svc.cluster.local", asked recursively.
_NAME = b"".join(bytes([len(part)]) + part for part in b"web.shop.svc.cluster.local".split(b".")) + b"\0"
_QUESTION = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + _NAME + struct.pack("!2H", 1, 1)
_ANSWERED, _NO_ERROR = 0x8000, 0x000F


def asks(address: str, port: int) -> str:
    """One question and its answer; what became of it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(TIMEOUT_S)
        try:
            peer.connect((address, port))
            peer.send(_QUESTION)
            flags = struct.unpack_from("!H", peer.recv(512), 2)[0]
        except OSError as error:
            return _word(error)
    return OK if flags & _ANSWERED and not flags & _NO_ERROR else BROKEN


class Held:
    """One connection, opened at the first exchange and never again."""

    def __init__(self, address: str, port: int) -> None:
        self._peer = socket.create_connection((address, port), timeout=10)
        self._peer.settimeout(TIMEOUT_S)

    def exchange(self) -> str:
        """One byte there and back on the same connection."""
        try:
            self._peer.sendall(b".")
            return OK if self._peer.recv(1) else BROKEN
        except OSError as error:
            return _word(error)


def _once(words: list[str]) -> None:
    addresses, ports = words[::2], [int(word) for word in words[1::2]]
    with ThreadPoolExecutor(len(addresses)) as pool:
        print(*pool.map(fresh, addresses, ports))


def _talk(kind: str, address: str, port: int, every: float) -> None:
    held = Held(address, port) if kind == "held" else None
    once = asks if kind == "asks" else fresh
    due = time.monotonic()
    while True:
        began = time.time_ns()
        word = held.exchange() if held is not None else once(address, port)
        print(began, time.time_ns(), word, flush=True)
        due = max(due + every, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    if sys.argv[1] == "once":
        _once(sys.argv[2:])
        sys.exit()
    _talk(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
