"""64-bit mixing of columns: the keys of every table.

The mixer is the finaliser of splitmix64 (Steele, Lea, Flood 2014), seeded. It is not a cryptographic hash: a
chosen collision merges two keys of one table, it does not reach outside it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from detectors.kernels import hashes as kernel

U64 = npt.NDArray[np.uint64]


def _plain(values: U64) -> U64:
    # As loops take it: they are compiled anew for every other kind of array.
    plain = values.flags.carray and values.dtype == np.uint64
    return values if plain else np.require(values, np.uint64, ["C", "W"])


def mix(values: U64) -> U64:
    """Return mixed copies of u64 values, shape (n,); a bijection."""
    mixed: U64 = kernel.mix_each(_plain(values))
    return mixed


def combine(left: U64, right: U64) -> U64:
    """Return one u64 key per pair, shape (n,); order matters.

    Raises:
        ValueError: there are not as many on both sides.
    """
    if left.shape != right.shape:
        problem = f"{left.shape} values cannot be paired with {right.shape}"
        raise ValueError(problem)
    keys: U64 = kernel.combine_each(_plain(left), _plain(right))
    return keys


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
