"""Loops over the bytes of many strings that stand one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from detectors.kernels.compiled import compiled

_DOT = 46


@compiled
def hash_bytes(raw: Any, starts: Any, lengths: Any, powers: Any) -> Any:
    """Return the u64 polynomial of each string: its bytes plus one, times the powers in turn."""
    out = np.zeros(len(starts), np.uint64)
    one = np.uint64(1)
    for i in range(len(starts)):
        for at in range(lengths[i]):
            out[i] += (np.uint64(raw[starts[i] + at]) + one) * powers[at % len(powers)]
    return out


@compiled
def count_letters(raw: Any, starts: Any, lengths: Any, logs: Any) -> Any:
    """Count bytes other than dots, and their Shannon entropy times their number.

    Args:
        raw: u8, all names one after the other.
        starts, lengths: int64, of the part of each name that counts.
        logs: float64, the binary logarithm of each number up to the longest length.

    Returns:
        Bytes, int64; bits, float64.
    """
    size = np.zeros(len(starts), np.int64)
    bits = np.zeros(len(starts), np.float64)
    seen = np.zeros(256, np.int64)
    for i in range(len(starts)):
        end = starts[i] + lengths[i]
        for at in range(starts[i], end):
            if raw[at] != _DOT:
                seen[raw[at]] += 1
                size[i] += 1
        for at in range(starts[i], end):
            count = seen[raw[at]]
            if count:
                bits[i] += count * (logs[size[i]] - logs[count])
                seen[raw[at]] = 0
    return size, bits
