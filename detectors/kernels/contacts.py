"""Who is active in a round, and who else speaks to a destination."""

from __future__ import annotations

from typing import Any

import numpy as np

from detectors.kernels.compiled import compiled


@compiled
def active_sources(exchanged: Any, copy: Any, place: Any, src: Any, sees: Any, ours: Any) -> Any:
    """Return the first group of each source of ours that exchanged payload in its node's tick; int64, ascending.

    Args:
        exchanged, copy, place, src: of the groups; those of one place stand together.
        sees: by place, whether its source of events tells payload.
        ours: by number of an address.
    """
    seen = np.full(len(ours), -1, np.int64)
    found = np.empty(len(src), np.int64)
    count = 0
    for i in range(len(src)):
        if exchanged[i] > 0 and ours[src[i]] and not copy[i] and sees[place[i]] and seen[src[i]] != place[i]:
            seen[src[i]] = place[i]
            found[count] = i
            count += 1
    return found[:count].copy()


@compiled
def other_callers(callers: Any, slots: Any, whom: Any) -> Any:
    """Count the callers beside each caller that its destination had before, and take the caller in where it is new.

    Args:
        callers: int64 by slot of a destination, 0 where there is none; the first come stay.
        slots: of each caller's destination, -1 where it found no room.
        whom: the caller, int64, not 0.
    """
    out = np.zeros(len(slots), np.int64)
    for i in range(len(slots)):
        if slots[i] < 0:
            continue
        row = callers[slots[i]]
        known = False
        for at in range(len(row)):
            if row[at] == whom[i]:
                known = True
            elif row[at] == 0:
                if not known:
                    row[at] = whom[i]
                break
            else:
                out[i] += 1
    return out
