"""Which addresses lie outside the ranges that clusters and sites use for themselves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detectors.hashing import U64
from detectors.minute import is_private
from schemas.addresses import pack

_MAPPED = np.uint64(0xFFFF << 32)


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


def is_outside_text(ip: str) -> bool:
    """Tell the same of one address in text.

    Raises:
        ValueError: it is no address.
    """
    words = np.frombuffer(pack(ip), ">u8").astype(np.uint64)
    return bool(is_outside(words[:1], words[1:])[0])
