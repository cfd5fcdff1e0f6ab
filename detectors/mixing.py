"""64-bit mixing of columns, for processes that load no compiled loops: exporters, which have little memory.

`detectors.hashing` gives the same numbers from compiled loops, faster for engines, at a hundred megabytes for the
compiler, which is given ``mix`` as it is here. The mixer is the finaliser of splitmix64 (Steele, Lea, Flood 2014),
seeded. It is not a cryptographic hash: a chosen collision merges two keys of one table, it does not reach outside it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]

_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)


def mix(values: U64) -> U64:
    """Return mixed copies of u64 values, shape (n,); a bijection."""
    x = values + GOLDEN
    x ^= x >> _S30
    x *= _M1
    x ^= x >> _S27
    x *= _M2
    x ^= x >> _S31
    return x


def combine(left: U64, right: U64) -> U64:
    """Return one u64 key per pair, shape (n,); order matters."""
    return mix(left ^ mix(right + GOLDEN))


def hash_addresses(packed: npt.NDArray[np.uint8], seed: int = 0) -> U64:
    """Return one u64 per address.

    Args:
        packed: uint8, shape (n, 16), C-contiguous.
        seed: changes every hash.
    """
    words = np.ascontiguousarray(packed).view(np.uint64)
    return combine(words[:, 0] ^ np.uint64(seed), words[:, 1])


@lru_cache(maxsize=65536)
def hash_text(text: str, seed: int = 0) -> int:
    """Return a u64 for a text, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=seed.to_bytes(8, "little")).digest())
