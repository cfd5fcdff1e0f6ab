"""Load for a live exporter, run inside network namespaces of the benchmark: a server, a client, at a stated pace.

python benchmarks/live_load.py serve
python benchmarks/live_load.py connect|send|ask|blast ADDRESS RATE SECONDS
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

TCP_PORT, UDP_PORT, DNS_PORT = 8000, 9000, 53
_BATCH_S = 0.005
_PAYLOAD = b"x" * 64
_UDP_SEGMENT, _TOGETHER = 103, 64  # <linux/udp.h>; datagrams of one call


def serve() -> None:
    """Answer connections with what they sent, DNS questions with an address; take everything else."""
    listener = socket.create_server(("", TCP_PORT), backlog=4096)
    for work in (_sink, _resolve):
        threading.Thread(target=work, daemon=True).start()
    print("ready", flush=True)
    while True:
        with listener.accept()[0] as peer, suppress(OSError):
            peer.settimeout(1)
            peer.sendall(peer.recv(4096))


def _sink() -> None:
    taker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taker.bind(("", UDP_PORT))
    while True:
        taker.recv(2048)


def _resolve() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("", DNS_PORT))
    answer = b"\xc0\x0c" + struct.pack("!HHIH4s", 1, 1, 60, 4, socket.inet_aton("192.0.2.1"))
    while True:
        question, asker = server.recvfrom(512)
        server.sendto(question[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + question[12:] + answer, asker)


def _paced(rate: float, seconds: float, act: Callable[[int], None]) -> int:
    """Act at a pace, in small groups; returns how often."""
    begin, done = time.monotonic(), 0
    while (passed := time.monotonic() - begin) < seconds:
        while done < passed * rate:
            act(done)
            done += 1
        time.sleep(_BATCH_S)
    return done


def _connect(address: str) -> Callable[[int], None]:
    def act(_: int) -> None:
        with socket.create_connection((address, TCP_PORT)) as peer:
            peer.sendall(_PAYLOAD)
            peer.recv(4096)

    return act


def _send(address: str) -> Callable[[int], None]:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect((address, UDP_PORT))

    def act(_: int) -> None:
        sender.send(_PAYLOAD)

    return act


def _blast(address: str) -> Callable[[int], None]:
    """Hand the kernel many datagrams at once: more than a loop of calls can send."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect((address, UDP_PORT))
    sender.setsockopt(socket.SOL_UDP, _UDP_SEGMENT, len(_PAYLOAD))
    together = _PAYLOAD * _TOGETHER

    def act(_: int) -> None:
        sender.send(together)

    return act


def _ask(address: str) -> Callable[[int], None]:
    asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asker.settimeout(1)
    asker.connect((address, DNS_PORT))

    def act(number: int) -> None:
        name = f"n{number % 5000}".encode()
        asker.send(struct.pack("!HHHHHH", number & 0xFFFF, 0x0100, 1, 0, 0, 0) + bytes([len(name)]) + name
                   + b"\x07example\x00" + struct.pack("!HH", 1, 1))  # fmt: skip
        asker.recv(512)

    return act


ACTS = {"connect": _connect, "send": _send, "ask": _ask, "blast": _blast}

if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        each = _TOGETHER if sys.argv[1] == "blast" else 1
        acted = _paced(float(sys.argv[3]) / each, float(sys.argv[4]), ACTS[sys.argv[1]](sys.argv[2]))
        print(acted * each, flush=True)
