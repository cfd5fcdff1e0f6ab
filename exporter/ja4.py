"""JA4: the fingerprint of a TLS client hello (FoxIO, "JA4: TLS Client Fingerprinting", BSD 3-clause).

Three parts joined by underscores. The first counts: transport, version, whether a server name is
there, numbers of suites and extensions, the first protocol's ends. The second hashes the sorted suites, the
third the sorted extensions followed by the signature algorithms in their own order. Reserved
GREASE values (RFC 8701) count nowhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

SERVER_NAME, ALPN = 0x0000, 0x0010
_VERSIONS = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3", 0x0002: "s2"}
_NOTHING = "0" * 12
# Longest list of a hello whose fingerprint is remembered, so that made-up hellos cannot fill the memory.
_REMEMBERED = 128


def is_grease(value: int) -> bool:
    """Tell a reserved value that clients send at random: both bytes are equal and end in A."""
    return value & 0x0F0F == 0x0A0A and value >> 8 == value & 0xFF


def fingerprint(
    version: int, suites: tuple[int, ...], extensions: tuple[int, ...], algorithms: tuple[int, ...], protocol: bytes
) -> str:
    """Return the fingerprint of a hello sent over TCP.

    Args:
        version: highest version offered.
        suites: suites in the hello's order.
        extensions: extension types in the hello's order.
        algorithms: signature algorithms in the hello's order.
        protocol: first ALPN protocol; empty without one.
    """
    usual = max(len(suites), len(extensions), len(algorithms), len(protocol)) <= _REMEMBERED
    return (_known if usual else _computed)(version, suites, extensions, algorithms, protocol)


def _computed(
    version: int, suites: tuple[int, ...], extensions: tuple[int, ...], algorithms: tuple[int, ...], protocol: bytes
) -> str:
    suites = tuple(value for value in suites if not is_grease(value))
    extensions = tuple(value for value in extensions if not is_grease(value))
    named = "d" if SERVER_NAME in extensions else "i"
    counts = f"{min(len(suites), 99):02d}{min(len(extensions), 99):02d}"
    head = f"t{_VERSIONS.get(version, '00')}{named}{counts}{_ends(protocol)}"
    hashed = _listed(sorted(value for value in extensions if value not in (SERVER_NAME, ALPN)))
    signed = _listed(value for value in algorithms if not is_grease(value))
    third = _digest(f"{hashed}_{signed}" if signed else hashed) if hashed else _NOTHING
    return f"{head}_{_digest(_listed(sorted(suites))) if suites else _NOTHING}_{third}"


# Clients are few and send the same hello again and again, apart from the order of extensions in some.
_known = lru_cache(maxsize=4096)(_computed)


def _ends(protocol: bytes) -> str:
    """Return the first and last character of the protocol, of its hex form where one is no letter or digit."""
    if not protocol:
        return "00"
    ends = protocol[:1] + protocol[-1:]
    if ends.isalnum():  # of bytes: ASCII only
        return ends.decode("ascii")
    written = protocol.hex()
    return written[0] + written[-1]


def _listed(values: Iterable[int]) -> str:
    return ",".join(f"{value:04x}" for value in values)


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode("ascii")).hexdigest()[:12]
