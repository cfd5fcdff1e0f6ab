"""TLS records and handshake messages: what hellos and certificates say (RFC 5246, RFC 8446)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from exporter.ja4 import ALPN, SERVER_NAME, fingerprint, is_grease
from exporter.wire_text import host, text

CLIENT_HELLO, SERVER_HELLO, CERTIFICATE = 1, 2, 11
TLS13 = 0x0304
_HANDSHAKE = 22
_RECORD = struct.Struct(">BHH")
# RFC 5246 section 6.2.3; longer records are no TLS.
_MAX_RECORD = (1 << 14) + 2048
_SIGNATURE_ALGORITHMS, _SUPPORTED_VERSIONS = 13, 43
_U16 = struct.Struct(">H")
_EXTENSION = struct.Struct(">HH")


class MalformedTls(ValueError):
    """Bytes that are no TLS handshake."""


@dataclass(frozen=True)
class ClientHello:
    """Server name and first protocol as text (empty: none), highest version offered, JA4."""

    sni: str
    alpn: str
    version: int
    ja4: str


@dataclass(frozen=True)
class ServerHello:
    """Version and suite chosen."""

    version: int
    cipher: int


class Handshake:
    """Takes one direction's bytes in order, gives whole handshake messages; holds at most ``most`` bytes.

    Attributes:
        over: no handshake message will follow that can be read: another record type began, or the limit is reached.
    """

    __slots__ = ("_body", "_head", "_left", "_most", "over")

    def __init__(self, most: int) -> None:
        self._most = most
        self._head = bytearray()
        self._body = bytearray()
        self._left = 0
        self.over = False

    @property
    def held(self) -> int:
        """Bytes held."""
        return len(self._body) + len(self._head)

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Give (type, body) of messages; of a certificate message, as soon as the leaf is there.

        Raises:
            MalformedTls: a record is no TLS record.
        """
        self._records(data)
        while len(self._body) >= 4:
            kind, size = self._body[0], int.from_bytes(self._body[1:4], "big")
            whole = len(self._body) >= 4 + size
            if not whole and (kind != CERTIFICATE or not _has_leaf(self._body)):
                break
            yield kind, bytes(self._body[4 : 4 + size])
            if not whole:
                self.over = True
                self._body.clear()
            del self._body[: 4 + size]
        if self.held > self._most:
            self.over = True

    def _records(self, data: bytes) -> None:
        at = 0
        while at < len(data) and not self.over:
            if self._left:
                part = data[at : at + self._left]
                self._body += part
                self._left -= len(part)
                at += len(part)
                continue
            part = data[at : at + _RECORD.size - len(self._head)]
            self._head += part
            at += len(part)
            if len(self._head) < _RECORD.size:
                return
            kind, version, size = _RECORD.unpack(self._head)
            self._head.clear()
            if version >> 8 != 3 or not 20 <= kind <= 24 or not 0 < size <= _MAX_RECORD:
                raise MalformedTls
            self.over = kind != _HANDSHAKE
            self._left = size


def _has_leaf(message: bytearray) -> bool:
    return len(message) >= 10 and len(message) >= 10 + int.from_bytes(message[7:10], "big")


class _Reader:
    """A cursor that never leaves its bytes."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, count: int) -> bytes:
        part = self.data[self.at : self.at + count]
        if len(part) < count:
            raise MalformedTls
        self.at += count
        return part

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, length_size: int) -> bytes:
        return self.take(self.number(length_size))


def read_client_hello(body: bytes) -> ClientHello:
    """Read a client hello (RFC 8446 section 4.1.2).

    Raises:
        MalformedTls: lengths contradict each other.
    """
    reader = _Reader(body)
    legacy = reader.number(2)
    reader.take(32)
    reader.vector(1)
    suites = _numbers(reader.vector(2))
    reader.vector(1)
    extensions = _extensions(reader) if reader.left else []
    values = dict(reversed(extensions))  # the first of each kind
    names = values.get(SERVER_NAME, b"")
    offered = [v for v in _numbers(_vector(values.get(_SUPPORTED_VERSIONS, b""), 1)) if not is_grease(v)]
    version = max(offered, default=legacy)
    protocol = _vector(_vector(values.get(ALPN, b""), 2), 1)
    algorithms = _numbers(_vector(values.get(_SIGNATURE_ALGORITHMS, b""), 2))
    ja4 = fingerprint(version, suites, tuple(kind for kind, _ in extensions), algorithms, protocol)
    return ClientHello(host(_server_name(names)), text(protocol), version, ja4)


def _server_name(value: bytes) -> bytes:
    """Return the host name in a server name extension (RFC 6066 section 3)."""
    if not value:
        return b""
    listed = _Reader(_vector(value, 2))
    while listed.left:
        kind, name = listed.number(1), listed.vector(2)
        if kind == 0:
            return name
    return b""


def read_server_hello(body: bytes) -> ServerHello:
    """Read a server hello, or a hello retry request, which has its form (RFC 8446 section 4.1.3).

    Raises:
        MalformedTls: lengths contradict each other.
    """
    reader = _Reader(body)
    version = reader.number(2)
    reader.take(32)
    reader.vector(1)
    cipher = reader.number(2)
    reader.take(1)
    values = dict(_extensions(reader)) if reader.left else {}
    chosen = values.get(_SUPPORTED_VERSIONS, b"")
    return ServerHello(_U16.unpack(chosen)[0] if len(chosen) == 2 else version, cipher)


def read_leaf_bytes(body: bytes) -> bytes:
    """Return the first certificate of a certificate message of TLS 1.2 and before; empty without one.

    Raises:
        MalformedTls: lengths contradict each other.
    """
    reader = _Reader(body)
    return reader.vector(3) if reader.number(3) else b""


def _vector(value: bytes, length_size: int) -> bytes:
    """Return the first vector in a value; nothing of nothing."""
    return _Reader(value).vector(length_size) if value else b""


def _numbers(value: bytes) -> tuple[int, ...]:
    if len(value) % 2:
        raise MalformedTls
    return struct.unpack(f">{len(value) // 2}H", value)


def _extensions(reader: _Reader) -> list[tuple[int, bytes]]:
    data, at = reader.vector(2), 0
    found = []
    # Most of a hello: read without a cursor's calls.
    while at < len(data):
        if at + 4 > len(data):
            raise MalformedTls
        kind, size = _EXTENSION.unpack_from(data, at)
        at += 4 + size
        if at > len(data):
            raise MalformedTls
        found.append((kind, data[at - size : at]))
    return found
