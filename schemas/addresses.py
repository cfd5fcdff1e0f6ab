"""IP addresses as 16 bytes: IPv6 as it is, IPv4 mapped into ``::ffff:0:0/96``."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

IPV4_PREFIX = b"\x00" * 10 + b"\xff\xff"
UNSPECIFIED = b"\x00" * 16


def pack(text: str) -> bytes:
    """Return the 16 bytes of an address in text.

    Raises:
        ValueError: the text is not an IP address.
    """
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv4Address):
        return IPV4_PREFIX + address.packed
    return address.packed


@lru_cache(maxsize=65536)
def unpack(packed: bytes) -> str:
    """Return the text of a 16-byte address, IPv4 in dotted form.

    Raises:
        ValueError: not 16 bytes long.
    """
    if len(packed) != 16:
        message = f"an address has 16 bytes, not {len(packed)}"
        raise ValueError(message)
    if packed[:12] == IPV4_PREFIX:
        return str(ipaddress.IPv4Address(packed[12:]))
    return str(ipaddress.IPv6Address(packed))


def is_ipv4(packed: bytes) -> bool:
    """Tell whether a 16-byte address is a mapped IPv4 address."""
    return packed[:12] == IPV4_PREFIX
