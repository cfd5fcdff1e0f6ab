"""Odd DNS answers: `python -m tests.lab.answers {twice,late,guess,parallel} …`.

`twice` and `late` are servers: each question is answered two times alike, or after six seconds. `guess` sends
forged answers with consecutive ids to one client. `parallel` is a client that sends one question to two
servers at once from one socket with one id, as musl's resolver does.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import struct
import sys
import time

import dns.message
import dns.rrset

PORT = 53
LATE_SECONDS = 6.0


def answer(query: dns.message.Message, address: str) -> bytes:
    """The answer to a query, with one address."""
    reply = dns.message.make_response(query)
    reply.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", address))
    return reply.to_wire()


def serve(style: str, address: str) -> None:
    """Answer on port 53 until killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("0.0.0.0", PORT))
        waiting: list[tuple[float, bytes, tuple[str, int]]] = []
        server.settimeout(0.05)
        while True:
            try:
                data, client = server.recvfrom(4096)
                reply = answer(dns.message.from_wire(data), address)
                delay = LATE_SECONDS if style == "late" else 0.0
                waiting += [(time.monotonic() + delay, reply, client)] * (2 if style == "twice" else 1)
            except TimeoutError:
                pass
            while waiting and waiting[0][0] <= time.monotonic():
                _, reply, client = waiting.pop(0)
                server.sendto(reply, client)


def packet(source: str, target: str, port: int, payload: bytes) -> bytes:
    """An IPv4 packet with a UDP datagram from port 53; without UDP checksum, which IPv4 allows."""
    udp = struct.pack("!HHHH", PORT, port, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
    return head + socket.inet_aton(source) + socket.inet_aton(target) + udp


def guess(options: argparse.Namespace) -> None:
    """Send forged answers in the name of a server."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for number in range(options.count):
            query = dns.message.make_query(options.name, "A", id=number)
            forged = packet(options.server, options.to, options.port, answer(query, "203.0.113.66"))
            raw.sendto(forged, (options.to, 0))
            time.sleep(1 / options.rate)


def parallel(options: argparse.Namespace) -> None:
    """Ask two servers at once, so many times."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("0.0.0.0", options.port))
        client.settimeout(1.0)
        for number in range(options.count):
            wire = dns.message.make_query(options.name, "A", id=number + 1).to_wire()
            for server in (options.server, options.to):
                if server:
                    client.sendto(wire, (server, PORT))
            with contextlib.suppress(TimeoutError):
                client.recv(4096)
            time.sleep(1 / options.rate)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("style", choices=("twice", "late", "guess", "parallel"))
    parser.add_argument("--address", default="203.0.113.10", help="what servers answer")
    parser.add_argument("--server", default="", help="who is asked, or in whose name answers are forged")
    parser.add_argument("--to", default="", help="guess: the client; parallel: a second server")
    parser.add_argument("--port", type=int, default=53053, help="the client's port")
    parser.add_argument("--name", default="www.news.example")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--rate", type=float, default=2.0)
    chosen = parser.parse_args()
    if chosen.style in ("twice", "late"):
        serve(chosen.style, chosen.address)
    sys.exit((guess if chosen.style == "guess" else parallel)(chosen))
