"""The servers of the lab, one process each: `python -m tests.lab.services KIND …`; `--help` lists the kinds.

Small protocols on real sockets.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import re
import struct
from collections.abc import Awaitable, Callable
from typing import cast

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
WORDS = ("order", "item", "price", "total", "basket", "customer", "street", "parcel", "invoice", "lamp", "chair")
MAX_BODY = 200_000
BACKLOG = 128  # of the order of what servers ask for; a SYN flood must be able to fill it
PASSIVE_PORTS = range(30_000, 30_200)


def text(size: int) -> bytes:
    """`size` bytes of harmless words, always the same ones."""
    words = itertools.cycle(WORDS)
    line = " ".join(next(words) for _ in range(len(WORDS) * 7))
    return (line * (size // len(line) + 1)).encode()[:size]


async def serve_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """HTTP/1.1 with keep-alive; the last number in the path is the size of the answer in bytes."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].decode("ascii", "replace")
        number = path.rsplit("/", 1)[-1]
        body = text(min(int(number), MAX_BODY) if number.isdigit() else 300)
        announced = re.search(rb"content-length: *(\d+)", head.lower())
        if announced:  # an answer before the request has ended would let a slow body go
            await reader.readexactly(min(int(announced[1]), MAX_BODY))
        close = b"connection: close" in head.lower()
        reply = f"HTTP/1.1 200 OK\r\nServer: lab\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        reply += "Connection: close\r\n\r\n" if close else "Connection: keep-alive\r\n\r\n"
        writer.write(reply.encode() + body)
        await writer.drain()
        if close:
            return


async def serve_login(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """HTTP/1.1 without keep-alive; a page for who gives the password `right` (basic authentication), else 401."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii", "replace")
    _, _, given = head.partition("Authorization: Basic ")
    known = base64.b64decode(given.partition("\r\n")[0]).endswith(b":right")
    body = text(800 if known else 40)
    status = "200 OK" if known else '401 Unauthorized\r\nWWW-Authenticate: Basic realm="lab"'
    reply = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(reply.encode() + body)
    await writer.drain()


async def serve_query(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Length-prefixed requests and answers on one long connection, as databases do."""
    while True:
        (length,) = struct.unpack("!I", await reader.readexactly(4))
        await reader.readexactly(min(length, MAX_BODY))
        answer = text(100 + length * 13 % 1500)
        writer.write(struct.pack("!I", len(answer)) + answer)
        await writer.drain()


async def serve_passive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A file server in the manner of passive FTP: each `GET size` is answered on a port of its own.

    `GET` sends the file at once, `ASK` waits for a line on the data connection first (payload both ways).
    """
    writer.write(b"220 lab file server\r\n")
    while line := await reader.readline():
        verb, _, size = line.decode("ascii", "replace").strip().partition(" ")
        served = asyncio.Event()

        async def data(r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
            if verb == "ASK":  # noqa: B023 -- the data connection ends before the next command is read
                await r.readline()
            w.write(text(int(size)))  # noqa: B023
            await w.drain()
            w.close()
            served.set()  # noqa: B023

        listener = await _first_free(data)
        port = listener.sockets[0].getsockname()[1]
        writer.write(f"227 port {port}\r\n".encode())
        await asyncio.wait_for(served.wait(), 10)
        listener.close()
        writer.write(b"226 done\r\n")


_next_port = itertools.cycle(PASSIVE_PORTS)


async def _first_free(handler: Handler) -> asyncio.Server:
    for port in itertools.islice(_next_port, len(PASSIVE_PORTS)):
        try:
            return await asyncio.start_server(handler, "0.0.0.0", port)
        except OSError:
            continue
    raise RuntimeError("no free passive port")


async def serve_upload(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """HTTP/1.1 that takes a body of any length and answers with as many bytes as the last number in the path says."""
    head = await reader.readuntil(b"\r\n\r\n")
    number = head.split(b" ", 2)[1].decode("ascii", "replace").rsplit("/", 1)[-1]
    left = int(re.findall(rb"(?i)content-length: *([0-9]+)", head)[0])
    while left:
        left -= len(await reader.read(min(left, 1 << 18)) or await reader.readexactly(1))
    body = text(int(number) if number.isdigit() else 100)
    writer.write(f"HTTP/1.1 201 Created\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
    await writer.drain()


_REPLIES = {
    "USER": b"331 password please\r\n", "PASS": b"230 welcome\r\n", "EHLO": b"250-lab\r\n250 AUTH PLAIN LOGIN\r\n",
    "HELO": b"250 lab\r\n", "AUTH": b"235 welcome\r\n", "QUIT": b"221 bye\r\n", "DATA": b"354 go on\r\n",
    "SYST": b"215 UNIX Type: L8\r\n",
}  # fmt: skip


async def serve_greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greets and takes every login, in the manner of FTP and SMTP."""
    writer.write(b"220 lab ready\r\n")
    while line := await reader.readline():
        verb = line.decode("ascii", "replace").strip().split(" ", 1)[0].upper()
        writer.write(_REPLIES.get(verb, b"250 yes\r\n"))
        await writer.drain()
        if verb == "QUIT":
            return


class NameServer(asyncio.DatagramProtocol):
    """Answers every question: TXT with 120 bytes of text, AAAA with none, others with one address."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket to answer on."""
        # Python 3.11 gives a transport that can send but is no DatagramTransport by class.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one query."""
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA
        question = query.question[0]
        values = {dns.rdatatype.TXT: f'"{text(120).decode()}"', dns.rdatatype.A: "203.0.113.77"}
        if question.rdtype in values:
            kind = dns.rdatatype.to_text(question.rdtype)
            reply.answer.append(dns.rrset.from_text(question.name, 1, "IN", kind, values[question.rdtype]))
        self._transport.sendto(reply.to_wire(), addr)


class Collector(asyncio.DatagramProtocol):
    """Takes what comes and answers nothing, as collectors of logs and metrics do."""


def _guarded(handler: Handler) -> Handler:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            return  # the client left, as clients do
        finally:
            writer.close()

    return serve


async def _main(kind: str, ports: list[int], address: str | None) -> None:
    loop = asyncio.get_running_loop()
    handlers: dict[str, Handler] = {
        "http": serve_http, "login": serve_login, "query": serve_query, "passive": serve_passive,
        "upload": serve_upload, "greeting": serve_greeting,
    }  # fmt: skip
    datagrams = {"names": NameServer, "swallow": Collector}
    for port in ports:
        if kind in datagrams:
            await loop.create_datagram_endpoint(datagrams[kind], local_addr=(address or "0.0.0.0", port))
        else:
            await asyncio.start_server(_guarded(handlers[kind]), address, port, backlog=BACKLOG)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("http", "login", "query", "passive", "names", "swallow", "upload", "greeting"))
    parser.add_argument("ports", nargs="+", type=int)
    parser.add_argument("--address", help="address to listen on (default: all)")
    options = parser.parse_args()
    asyncio.run(_main(options.kind, options.ports, options.address))
