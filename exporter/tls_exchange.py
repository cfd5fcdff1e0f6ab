"""One TLS handshake as it is seen: hellos of both sides and the server's certificate, to one row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from exporter.byte_stream import ByteStream
from exporter.tls_wire import (
    CERTIFICATE,
    CLIENT_HELLO,
    SERVER_HELLO,
    TLS13,
    ClientHello,
    Handshake,
    MalformedTls,
    ServerHello,
    read_client_hello,
    read_leaf_bytes,
    read_server_hello,
)  # fmt: skip
from exporter.x509_leaf import Leaf, read_leaf

Row = tuple[Any, ...]

_NO_CLIENT = ClientHello("", "", 0, "")
_NO_SERVER = ServerHello(0, 0)
_NO_LEAF = Leaf("", "", 0, 0)


@dataclass(frozen=True)
class Ends:
    """A flow as its packets name it: id, and address (16 bytes) and port of direction 0 and 1."""

    flow_id: int
    addresses: tuple[bytes, bytes]
    ports: tuple[int, int]

    def columns(self, client: int) -> tuple[bytes, bytes, int, int]:
        """Return client, server and their ports where the client sends in this direction."""
        server = 1 - client
        return self.addresses[client], self.addresses[server], self.ports[client], self.ports[server]


class TlsExchange:
    """Takes packets of one flow; its row is complete when both hellos, and a visible certificate, were read.

    Attributes:
        due: ns; what is known by then is reported.
        done: nothing more is to be learned.
        malformed: a message could not be read.
        cut: bytes were missing because the capture had cut them off.
        accounted: bytes held when its owner last counted them.
        rows: the row, once done.
    """

    kind = "tls"

    def __init__(self, ends: Ends, client: int, time: int, wait: int, most: int) -> None:
        self._ends, self._client, self._time = ends, client, time
        self._streams = (ByteStream(), ByteStream())
        self._readers = (Handshake(most), Handshake(most))
        self._finished = [False, False]
        self._hello, self._answer, self._leaf = _NO_CLIENT, _NO_SERVER, _NO_LEAF
        self.due = time + wait
        self.done = self.malformed = self.cut = False
        self.accounted = 0
        self.rows: list[Row] = []

    @property
    def held(self) -> int:
        """Bytes held."""
        return sum(part.held for part in (*self._streams, *self._readers))

    def wants(self, side: int, sequence: int, size: int) -> bool:
        """Tell whether a packet is worth looking at."""
        stream = self._streams[side]
        return not self._finished[side] and (stream.next is None or stream.wants(sequence, size))

    def take(self, side: int, sequence: int, size: int, data: bytes, time: int, starts: bool) -> None:
        """Take a packet's payload; ``starts``: it begins like a hello."""
        stream = self._streams[side]
        if stream.next is None and starts:
            stream.next = sequence
        stream.take(sequence, size, data, time)
        while (found := stream.pop()) is not None:
            try:
                for kind, body in self._readers[side].feed(found[0]):
                    self._message(side, kind, body)
            except MalformedTls:
                self.malformed = self._finished[side] = True
            self._finished[side] |= self._readers[side].over
        self.cut |= stream.cut and not self._finished[side]
        self._finished[side] |= stream.broken
        if self._finished[self._client] and self._finished[1 - self._client]:
            self.end()

    def _message(self, side: int, kind: int, body: bytes) -> None:
        if self._finished[side]:
            return
        if side == self._client:
            # Clients begin with their hello; a second one, after a retry request, differs only in key shares.
            self._finished[side] = True
            if kind != CLIENT_HELLO:
                raise MalformedTls
            self._hello = read_client_hello(body)
        elif kind == SERVER_HELLO:
            self._answer = read_server_hello(body)
            self._finished[side] = self._answer.version >= TLS13
        elif kind == CERTIFICATE:
            der = read_leaf_bytes(body)
            self._leaf = read_leaf(der) if der else _NO_LEAF
            self._finished[side] = True

    def finish(self, side: int, sequence: int) -> None:
        """Take a FIN that stands behind byte ``sequence``: what its side has not said yet never comes."""
        if self._streams[side].next not in (None, sequence):
            return  # bytes before it are on their way
        self._finished[side] = True
        if side != self._client or self._finished[1 - side]:
            self.end()

    def expire(self, now: int) -> None:
        """Report what is known when the time is over."""
        if self.due <= now:
            self.end()

    def end(self) -> None:
        """Report what is known; nothing is, no row."""
        if self.done:
            return
        self.done = True
        hello, answer, leaf = self._hello, self._answer, self._leaf
        if hello is _NO_CLIENT and answer is _NO_SERVER and leaf is _NO_LEAF:
            return
        self.rows.append((
            self._ends.flow_id, self._time, *self._ends.columns(self._client), hello.sni, hello.alpn, hello.version,
            answer.version, answer.cipher, hello.ja4, leaf.sha256, leaf.issuer, leaf.not_before, leaf.not_after,
        ))  # fmt: skip
