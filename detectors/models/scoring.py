"""How far a minute's windows are from what is usual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectors.models import baseline, week
from detectors.models.forest import RoleForest
from detectors.models.store import WorkloadStore
from detectors.models.windows import LEAST, Minute

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_CLIP = 10.0  # robust z beyond which more is not worse, for trees and drift
_TREE_RELIEF = 0.75  # share of the limit that is enough where the trees agree; at a half, noise suffices
_SHORT = 10  # windows: with so few, medians and spreads are half guesses, so the limit is doubled


@dataclass(frozen=True)
class Scored:
    """One minute's judgement of workloads that are past warm-up; one entry each."""

    rows: I64
    places: I64  # in the minute
    center: F64
    spread: F64
    up: F64  # robust z upwards, 0 where of no interest
    sample: F64  # deviations for the trees, 0 to 1
    score: F64
    tree_score: F64
    limit: F64
    own_limit: F64


def score(store: WorkloadStore, forest_of: Callable[[int], RoleForest | None], rows: I64, places: I64,
          minute: Minute, limit: float, tail_margin: float) -> Scored:  # fmt: skip
    """Judge windows against their own past, their hour and their role.

    Args:
        store: baselines of workloads.
        forest_of: trees for a row.
        rows: workloads past warm-up.
        places: where they are in the minute.
        minute: the windows.
        limit: robust z above which a window is odd.
        tail_margin: times a workload's own 99 % score that an alert must exceed, at most three times the limit.
    """
    x = minute.x[places]
    center, spread = baseline.usual(store["ring"][rows], store["seen"][rows])
    expected = np.maximum(center, week.expected(store, rows, minute.minute))
    up = np.where(minute.weight[places] >= LEAST, np.maximum(x - expected, 0) / spread, 0.0)
    sample = np.clip((x - center) / spread, -_CLIP, _CLIP) / (2 * _CLIP) + 0.5
    limits = limit * (1 + _SHORT / store["seen"][rows])
    peak = up.max(axis=1, initial=0.0)
    trees, total = np.zeros(len(rows)), peak.copy()
    # The trees alone are no reason: they only lower the limit for what deviates in several ways at once.
    for place in np.flatnonzero((peak > _TREE_RELIEF * limits) & (peak <= limits)):
        forest = forest_of(int(rows[place]))
        if forest is not None:
            trees[place] = forest.score(sample[place])
            if trees[place] > forest.limit():
                total[place] = peak[place] / _TREE_RELIEF
    tail = baseline.tail(store["histogram"][rows], 0.99)
    own = np.maximum(limits, np.minimum(tail_margin * tail, 3 * limits))
    return Scored(rows, places, center, spread, up, sample, total, trees, limits, own)
