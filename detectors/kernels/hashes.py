"""The mixer of `detectors.kernels.cells` over whole arrays: one pass where numpy needs one for every step."""

from __future__ import annotations

from typing import Any

import numpy as np

from detectors.kernels.cells import combine, mix
from detectors.kernels.compiled import compiled


@compiled
def mix_each(values: Any) -> Any:
    """Return mixed u64 values, shape (n,)."""
    out = np.empty(len(values), np.uint64)
    for i in range(len(values)):
        out[i] = mix(values[i])
    return out


@compiled
def combine_each(left: Any, right: Any) -> Any:
    """Return one u64 per pair of u64 values, shape (n,)."""
    out = np.empty(len(left), np.uint64)
    for i in range(len(left)):
        out[i] = combine(left[i], right[i])
    return out
