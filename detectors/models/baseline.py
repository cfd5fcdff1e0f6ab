"""What is usual for a workload: medians and spreads of its last windows, and its own tail of scores.

All functions work on many workloads at once. Median and MAD (median absolute deviation, times 1.4826 to
match a normal distribution's sigma) stay what they are while fewer than half of the windows are odd.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.models.store import Quantity
from detectors.models.windows import COUNT, FLOORS, LOGS

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

RING = 64  # windows that are usual; an hour, so that the time of day moves it along
BINS = 64
BIN = 0.5  # robust z per bin of the score histogram
_KEPT = 1440  # scores in the histogram before it is halved: a day

_SIGMA = 1.4826
_RARE = 0.5  # spread of log1p of counts around 0, where the MAD of a few zeros says nothing

QUANTITIES = (
    Quantity("ring", (RING, COUNT), "f4"),
    Quantity("seen", (), "i4"),  # windows learned since the baseline began
    Quantity("histogram", (BINS,), "i4"),
)


def usual(ring: npt.NDArray[Any], seen: I64) -> tuple[F64, F64]:
    """Return median and spread per workload and feature.

    Args:
        ring: (n, RING, COUNT); the first ``min(seen, RING)`` windows of each are filled.
        seen: windows learned, at least 1 each.

    Returns:
        two float64 arrays (n, COUNT).
    """
    filled = np.minimum(seen, RING)
    valid = np.arange(RING)[None, :] < filled[:, None]
    windows = np.where(valid[:, :, None], ring.astype(np.float64), np.nan)
    center = _median(windows, filled)
    spread = _SIGMA * _median(np.abs(windows - center[:, None, :]), filled)
    rare = np.where(LOGS, _RARE / np.sqrt(1 + np.expm1(np.clip(center, 0, 60))), 0.0)
    return center, np.maximum(spread, np.maximum(FLOORS, rare))


def _median(windows: F64, filled: I64) -> F64:
    ordered = np.sort(windows, axis=1)  # what is not filled is NaN and sorts last
    rows = np.arange(len(windows))
    return (ordered[rows, (filled - 1) // 2] + ordered[rows, filled // 2]) / 2


def learn(ring: npt.NDArray[Any], seen: npt.NDArray[Any], rows: I64, x: F64) -> None:
    """Put one window into the ring of each row, in place."""
    ring[rows, seen[rows] % RING] = x
    seen[rows] += 1


def newest(ring: npt.NDArray[Any], seen: int, count: int) -> npt.NDArray[Any]:
    """Return the newest windows of one workload's ring, oldest first."""
    count = min(count, seen, len(ring))
    return ring[(seen - count + np.arange(count)) % len(ring)]


def note_scores(histogram: npt.NDArray[Any], rows: I64, scores: F64) -> None:
    """Count scores; halve what is there once it is a day's worth, so that old days fade."""
    np.add.at(histogram, (rows, np.clip(scores / BIN, 0, BINS - 1).astype(np.int64)), 1)
    full = np.unique(rows)
    full = full[histogram[full].sum(axis=1) >= _KEPT]
    histogram[full] //= 2


def tail(histogram: npt.NDArray[Any], share: float) -> F64:
    """Return the score that a share of a workload's scores does not exceed: upper edge of its bin, (n,)."""
    total = histogram.sum(axis=1)
    cumulated = np.cumsum(histogram, axis=1)
    place = (cumulated < (share * total)[:, None]).sum(axis=1)
    return np.where(total > 0, (np.minimum(place, BINS - 1) + 1) * BIN, 0.0)
