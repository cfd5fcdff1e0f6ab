"""The times of the week, and the reference that does not move.

The profile holds the mean of what was learned in each hour of the week: what is high at this hour every
Monday is not unusual. The reference holds the highest medians of the first week by hour of day and is then
frozen: a change too slow for any window to be odd still moves the live baseline away from it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detectors.models.store import Quantity, WorkloadStore
from detectors.models.windows import COUNT

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

HOURS = 168
_DAY = 24
WEEK = 7 * 86400  # s
_SETTLED = 60  # windows learned before the reference begins: an hour, a full ring

QUANTITIES = (
    Quantity("profile", (HOURS, COUNT), "f2", np.nan),
    Quantity("hour", (), "i8", -1),  # hour that is being gathered
    Quantity("hour_sum", (COUNT,), "f8"),
    Quantity("hour_windows", (), "i4"),
    Quantity("reference_since", (), "i8", -1),
    Quantity("reference", (COUNT,), "f4", np.nan),
    Quantity("reference_hours", (_DAY, COUNT), "f2", np.nan),
)
REFERENCE = ("reference_since", "reference", "reference_hours")


def hour_of(minute: int) -> int:
    """Return the number of the hour that a minute, given by its end, belongs to."""
    return (minute - 1) // 3600


def expected(store: WorkloadStore, rows: I64, minute: int) -> F64:
    """Return what earlier weeks, else earlier days, had in this hour; -inf where nothing is known. (n, COUNT)."""
    hour = hour_of(minute) % HOURS
    profile = store["profile"][rows].astype(np.float64)
    same_hour = profile[:, hour % _DAY :: _DAY]
    known = np.where(np.isnan(same_hour), -np.inf, same_hour).max(axis=1)
    exact = profile[:, hour]
    return np.where(np.isnan(exact), known, exact)


def gather(store: WorkloadStore, rows: I64, minute: int, x: F64) -> None:
    """Add learned windows to their hour; an hour that ended goes into the profile."""
    hour = hour_of(minute)
    ended = rows[(store["hour"][rows] != hour) & (store["hour_windows"][rows] > 0)]
    if len(ended):
        mean = store["hour_sum"][ended] / store["hour_windows"][ended][:, None]
        place = store["hour"][ended] % HOURS
        old = store["profile"][ended, place].astype(np.float64)
        # Half of what this hour was, half of what it was before: four weeks ago still counts a sixteenth.
        store["profile"][ended, place] = np.where(np.isnan(old), mean, (old + mean) / 2)
        store["hour_sum"][ended] = 0
        store["hour_windows"][ended] = 0
    store["hour"][rows] = hour
    store["hour_sum"][rows] += x
    store["hour_windows"][rows] += 1


def ramp(store: WorkloadStore, rows: I64, minute: int, center: F64, limits: tuple[float, float]) -> tuple[F64, F64]:
    """Compare live medians with the reference.

    Args:
        store: where the references are.
        rows: workloads.
        minute: end of the window, s.
        center: live medians, (n, COUNT).
        limits: rise that is tolerated in the first week, and after it, in log.

    Returns:
        the excess over the tolerated rise (positive: too far) and the reference, both (n, COUNT); excess is
        -inf where there is no reference yet.
    """
    since = store["reference_since"][rows]
    young = (since < 0) | (minute - since < WEEK)
    hours = store["reference_hours"][rows, hour_of(minute) % _DAY].astype(np.float64)
    base = store["reference"][rows].astype(np.float64)
    first_week = young[:, None] | np.isnan(hours)
    reference = np.where(first_week, base, hours)
    excess = center - reference - np.where(first_week, limits[0], limits[1])
    return np.where(np.isnan(excess), -np.inf, excess), reference


def keep_reference(store: WorkloadStore, rows: I64, minute: int, center: F64) -> None:
    """Begin references that are due and extend those of the first week."""
    begin = (store["reference_since"][rows] < 0) & (store["seen"][rows] >= _SETTLED)
    store["reference_since"][rows[begin]] = minute
    store["reference"][rows[begin]] = center[begin]
    since = store["reference_since"][rows]
    young = (since >= 0) & (minute - since < WEEK)
    chosen, hour = rows[young], hour_of(minute) % _DAY
    store["reference_hours"][chosen, hour] = np.fmax(store["reference_hours"][chosen, hour], center[young])
