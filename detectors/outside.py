"""Which addresses lie outside the ranges that clusters and sites use for themselves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detectors.columns import is_mapped
from detectors.mixing import U64
from schemas.addresses import pack

_MAPPED = np.uint64(0xFFFF << 32)


def is_private(address: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Tell which addresses lie in ranges for private use (RFC 1918, RFC 6598, RFC 4193).

    Args:
        address: uint8, shape (n, 16), IPv4-mapped.
    """
    first, second = address[:, 12], address[:, 13]
    four = (first == 10) | ((first == 172) & (second & 0xF0 == 16)) | ((first == 192) & (second == 168))
    four |= (first == 100) & (second & 0xC0 == 64)
    private: npt.NDArray[np.bool_] = np.where(is_mapped(address), four, address[:, 0] & 0xFE == 0xFC)
    return private


def is_outside(high: U64, low: U64) -> npt.NDArray[np.bool_]:
    """Tell which unicast addresses are neither for private use nor loopback, link-local or unspecified.

    Args:
        high: upper 64 bits of each address, IPv4-mapped.
        low: lower 64 bits.
    """
    packed = np.stack([high, low], axis=1).astype(">u8").view(np.uint8).reshape(-1, 16)
    first, second = packed[:, 12], packed[:, 13]
    mapped = (high == 0) & (low & ~np.uint64(0xFFFFFFFF) == _MAPPED)
    own4 = (first == 0) | (first == 127) | (first >= 224) | ((first == 169) & (second == 254))
    own6 = (packed[:, 0] == 255) | ((packed[:, 0] == 0xFE) & (packed[:, 1] >= 0x80)) | ((high == 0) & (low <= 1))
    outside: npt.NDArray[np.bool_] = ~is_private(packed) & ~np.where(mapped, own4, own6)
    return outside


def is_outside_halves(high: int, low: int) -> bool:
    """Tell the same of one address; for few, where arrays cost more than they save."""
    if high == 0 and low >> 32 == 0xFFFF:
        first, second = low >> 24 & 0xFF, low >> 16 & 0xFF
        private = first == 10 or (first, second) == (192, 168) or (first == 172 and second & 0xF0 == 16)
        private = private or (first == 100 and second & 0xC0 == 64)
        return not (private or first in (0, 127) or first >= 224 or (first, second) == (169, 254))
    first, second = high >> 56, high >> 48 & 0xFF
    own = first == 255 or (first == 0xFE and second >= 0x80) or (high == 0 and low <= 1)
    return not (own or first & 0xFE == 0xFC)


def is_outside_text(ip: str) -> bool:
    """Tell the same of one address in text.

    Raises:
        ValueError: it is no address.
    """
    packed = pack(ip)
    return is_outside_halves(int.from_bytes(packed[:8]), int.from_bytes(packed[8:]))
