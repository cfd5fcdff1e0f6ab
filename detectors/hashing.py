"""The mixer of `detectors.mixing` in compiled loops: the keys of every table of an engine."""

from __future__ import annotations

import numpy as np

from detectors.kernels import hashes as kernel
from detectors.mixing import U64


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
