"""ADWIN per workload: has the size of its deviations changed for good?

River's ADWIN (Bifet, Gavaldà 2007) cannot be read out, but it is a function of the numbers it was given.
The last of them are kept; when their buffer is full, a new one is given the newer half, so a detector
that was restored and one that never stopped hold the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.models.store import Quantity, WorkloadStore

KEPT = 128
_DELTA = 0.002  # chance of a false change per check, ADWIN's usual
_CLOCK = 4  # windows between checks

QUANTITIES = (Quantity("adwin", (KEPT,), "f4"), Quantity("adwin_filled", (), "i4"))


class Drift:
    """ADWIN objects by row of a store, made again from what the store holds where they are missing."""

    def __init__(self, store: WorkloadStore) -> None:
        self._store = store
        self._objects: dict[int, Any] = {}

    def update(self, row: int, value: float) -> bool:
        """Give a workload's ADWIN a number in 0 to 1; return whether it finds a change, and begin anew if so."""
        kept, filled = self._store["adwin"][row], int(self._store["adwin_filled"][row])
        if filled == KEPT:
            kept[: KEPT // 2] = kept[KEPT // 2 :]
            filled = KEPT // 2
            self._objects.pop(row, None)
        if filled == 0:
            self._objects.pop(row, None)
        adwin = self._objects.get(row)
        if adwin is None:
            adwin = self._objects[row] = _fed(kept[:filled])
        kept[filled] = value
        self._store["adwin_filled"][row] = filled + 1
        adwin.update(float(kept[filled]))
        if adwin.drift_detected:
            self._store["adwin_filled"][row] = 0
            return True
        return False

    def forget(self) -> None:
        """Drop all objects: the store was restored."""
        self._objects = {}


def _fed(values: npt.NDArray[np.float32]) -> Any:
    # Imported at first use: River brings SciPy, seconds that most runs end before they need.
    from river.drift import ADWIN

    adwin = ADWIN(delta=_DELTA, clock=_CLOCK)
    for value in values.tolist():
        adwin.update(value)
    return adwin
