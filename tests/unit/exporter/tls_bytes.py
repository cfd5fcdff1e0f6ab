"""TLS handshakes written byte by byte, apart from the code that reads them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

CHROME_SUITES = (0x1A1A, 0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013, 0xC014, 0x009C,
                 0x009D, 0x002F, 0x0035)  # fmt: skip
CHROME_ALGORITHMS = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)


def vector(size: int, body: bytes) -> bytes:
    return len(body).to_bytes(size, "big") + body


def numbers(values: Sequence[int]) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def extension(kind: int, body: bytes = b"") -> bytes:
    return struct.pack(">H", kind) + vector(2, body)


def server_name(name: bytes) -> bytes:
    return extension(0, vector(2, b"\0" + vector(2, name)))


def message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + vector(3, body)


def record(body: bytes, kind: int = 22, version: int = 0x0301) -> bytes:
    return struct.pack(">BH", kind, version) + vector(2, body)


def client_hello(
    extensions: Sequence[bytes] = (), suites: Sequence[int] = (0x1301, 0xC02F), version: int = 0x0303
) -> bytes:
    body = struct.pack(">H", version) + b"\x11" * 32 + vector(1, b"s" * 32) + vector(2, numbers(suites)) + b"\1\0"
    return message(1, body + (vector(2, b"".join(extensions)) if extensions else b""))


def chrome(name: bytes = b"Shop.Example.ORG") -> bytes:
    """A browser's hello, with GREASE, in the manner of the example that JA4 was published with."""
    others = (0x0005, 0x000A, 0x000B, 0x0012, 0x0015, 0x0017, 0x001B, 0x0023, 0x002D, 0x0033, 0x4469, 0xFF01, 0x2A2A)
    return client_hello(
        [
            server_name(name), *(extension(kind) for kind in others),
            extension(13, vector(2, numbers(CHROME_ALGORITHMS))),
            extension(16, vector(2, vector(1, b"h2") + vector(1, b"http/1.1"))),
            extension(43, vector(1, numbers((0x3A3A, 0x0304, 0x0303)))),
        ],
        CHROME_SUITES,
    )  # fmt: skip


def server_hello(version: int = 0x0303, cipher: int = 0xC02F, chosen: int | None = None) -> bytes:
    body = struct.pack(">H", version) + b"\x22" * 32 + vector(1, b"") + struct.pack(">HB", cipher, 0)
    return message(2, body + (vector(2, extension(43, struct.pack(">H", chosen))) if chosen else b""))


def element(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = bytes([len(body)]) if len(body) < 128 else bytes([0x82]) + struct.pack(">H", len(body))
    return bytes([tag]) + size + body


def name(*common: bytes, tag: int = 0x0C) -> bytes:
    country = element(0x31, element(0x30, element(0x06, b"\x55\x04\x06"), element(0x13, b"XX")))
    parts = [element(0x31, element(0x30, element(0x06, b"\x55\x04\x03"), element(tag, text))) for text in common]
    return element(0x30, country, *parts)


def der(
    issuer: bytes, before: bytes = b"231101000000Z", after: bytes = b"20510101000000Z", padding: int = 600
) -> bytes:
    """A certificate up to its validity, with filling where the rest would be."""
    validity = element(0x30, element(0x17, before), element(0x18, after))
    start = element(0xA0, b"\2\1\2") + element(0x02, b"\7" * 16) + element(0x30, b"\6\3\x2a\3\4")
    return element(0x30, element(0x30, start, issuer, validity, b"\0" * padding), b"signature")


def certificate(*chain: bytes) -> bytes:
    return message(11, vector(3, b"".join(vector(3, one) for one in chain)))
