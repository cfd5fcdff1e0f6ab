"""What a row says about a certificate: SHA-256, issuer's common name, validity (RFC 5280 section 4.1).

A walk over four fields instead of an X.509 library: certificates of attackers are often not well formed,
and those are the ones whose fingerprint is wanted; nothing here is trusted or verified.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from exporter.wire_text import text

_SEQUENCE, _SET, _OID, _VERSION = 0x30, 0x31, 0x06, 0xA0
_UTC_TIME, _GENERALIZED_TIME, _BMP_STRING = 0x17, 0x18, 0x1E
_COMMON_NAME = bytes.fromhex("550403")
_SECOND = 1_000_000_000
_LATEST = (1 << 63) - 1
# Names have about five parts; more are not looked through.
_MAX_NAMES = 32


class MalformedCertificate(ValueError):
    """Bytes that are no certificate."""


@dataclass(frozen=True)
class Leaf:
    """SHA-256 in hex; issuer's common name as text; validity in ns since epoch, 0 where it cannot be read.

    Times after 2262 stand as the greatest int64.
    """

    sha256: str
    issuer: str
    not_before: int
    not_after: int


# Servers show the same certificate again and again; so few that the largest ones hold 8 MiB.
@lru_cache(maxsize=256)
def read_leaf(der: bytes) -> Leaf:
    """Describe a certificate; what cannot be read is absent, the fingerprint is always there."""
    issuer, validity = "", (0, 0)
    try:
        tag, start, end, _ = _element(der, 0, len(der))
        _expect(tag, _SEQUENCE)
        tag, start, end, _ = _element(der, start, end)
        _expect(tag, _SEQUENCE)
        tag, _, _, after = _element(der, start, end)
        if tag == _VERSION:
            _, _, _, after = _element(der, after, end)  # the serial number
        _, _, _, after = _element(der, after, end)  # the signature's algorithm
        tag, name_start, name_end, after = _element(der, after, end)
        _expect(tag, _SEQUENCE)
        issuer = _common_name(der, name_start, name_end)
        tag, start, end, _ = _element(der, after, end)
        _expect(tag, _SEQUENCE)
        validity = _validity(der, start, end)
    except MalformedCertificate:
        pass
    return Leaf(hashlib.sha256(der).hexdigest(), issuer, *validity)


def _element(der: bytes, at: int, end: int) -> tuple[int, int, int, int]:
    """Return tag, start and end of the content, and where the next element begins (X.690 section 8.1)."""
    if at + 2 > end:
        raise MalformedCertificate
    tag, size, start = der[at], der[at + 1], at + 2
    if size & 0x80:
        count = size & 0x7F
        if not 1 <= count <= 4 or start + count > end:
            raise MalformedCertificate
        size = int.from_bytes(der[start : start + count], "big")
        start += count
    if start + size > end:
        raise MalformedCertificate
    return tag, start, start + size, start + size


def _expect(tag: int, wanted: int) -> None:
    if tag != wanted:
        raise MalformedCertificate


def _common_name(der: bytes, at: int, end: int) -> str:
    """Return the last common name, the most specific one."""
    found = ""
    for _ in range(_MAX_NAMES):
        if at >= end:
            break
        tag, inner, inner_end, at = _element(der, at, end)
        _expect(tag, _SET)
        tag, inner, inner_end, _ = _element(der, inner, inner_end)
        _expect(tag, _SEQUENCE)
        tag, start, stop, after = _element(der, inner, inner_end)
        if tag == _OID and der[start:stop] == _COMMON_NAME:
            tag, start, stop, _ = _element(der, after, inner_end)
            value = der[start:stop]
            found = text(value.decode("utf-16-be", "replace").encode() if tag == _BMP_STRING else value)
    return found


def _validity(der: bytes, at: int, end: int) -> tuple[int, int]:
    tag, start, stop, after = _element(der, at, end)
    tag_after, start_after, stop_after, _ = _element(der, after, end)
    return _time(tag, der[start:stop]), _time(tag_after, der[start_after:stop_after])


def _time(tag: int, value: bytes) -> int:
    """Return ns since epoch (RFC 5280 section 4.1.2.5: always in UTC, years below 50 are after 2000)."""
    digits = value[:-1]
    if tag == _UTC_TIME and len(digits) == 12:
        digits = (b"20" if digits[:2] < b"50" else b"19") + digits
    elif tag != _GENERALIZED_TIME:
        return 0
    if len(digits) != 14 or not digits.isdigit() or value[-1:] != b"Z":
        return 0
    try:
        moment = datetime.strptime(digits.decode("ascii"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return 0
    # Before 1970 stands as 1, because 0 means absent.
    return min(max(int(moment.timestamp()) * _SECOND, 1), _LATEST)
