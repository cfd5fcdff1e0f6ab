"""What a victim usually gets: the mean of its last hour, without what comes now."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectors.base import KeyView
from detectors.features import Feature
from detectors.index import I64

HOUR = 3600


@dataclass(frozen=True)
class Habit:
    """Per key: ``known`` for how long it has been seen (s, at most an hour), ``usual`` per window before it."""

    known: I64
    usual: npt.NDArray[np.float64]


def habit(keys: KeyView, now: Feature, hour: Feature) -> Habit:
    """Return what is usual for each key.

    Args:
        keys: of the tick.
        now: a sum over the window.
        hour: the sum over ``HOUR`` that ``now`` is part of, or one that is larger.
    """
    known = np.minimum(keys.ticks - keys.since(), HOUR)
    before = np.maximum(known - now.window, 1)
    return Habit(known, np.maximum(keys.value(hour) - keys.value(now), 0) / before * now.window)
