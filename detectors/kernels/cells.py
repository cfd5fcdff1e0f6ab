"""Open addressing shared by all tables: cells hold slot + 1, 0 where empty; keys stand in column 0 of the rows.

Nothing is deleted from cells; a sweep builds them again. They are at most half full, so a search ends.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detectors import mixing
from detectors.kernels.compiled import compiled

USED, FREE = 0, 1  # of a table's state: rows ever written, and of these the ones that are free

# Of one number what numpy does to a column.
mix: Any = compiled(mixing.mix)


@compiled
def combine(left: Any, right: Any) -> Any:
    """``detectors.mixing.combine`` of two u64."""
    return mix(left ^ mix(right + mixing.GOLDEN))


@compiled
def find(cells: Any, rows: Any, key: Any) -> Any:
    """Return the cell of a key (int64): the one that holds it, or the empty one where it would go."""
    last = len(cells) - 1
    at = np.int64(mix(np.uint64(key)) & np.uint64(last))
    while True:
        slot = cells[at]
        if slot == 0 or rows[slot - 1, 0] == key:
            return at
        at = (at + 1) & last


@compiled
def expect(cells: Any, rows: Any, keys: Any) -> Any:
    """Return the slot where each key (int64) is found at first sight, -1 where it is not; shape as the keys.

    A search waits for memory at every step. Here no step waits for the one before, so the waits overlap, and the
    searches that follow find in the cache what they read. `look` tells whether it still holds.
    """
    last = np.uint64(len(cells) - 1)
    slots = np.empty(len(keys), np.int64)
    for i in range(len(keys)):
        slots[i] = np.int64(cells[np.int64(mix(np.uint64(keys[i])) & last)]) - 1
    for i in range(len(keys)):
        slots[i] = slots[i] if rows[max(slots[i], 0), 0] == keys[i] else -1
    return slots


@compiled
def look(cells: Any, rows: Any, key: Any, expected: Any) -> Any:
    """Return where a key (int64) would go, or -1 where it stood as `expect` said; and its slot, -1 where it has none.

    Column 1 of a row that was freed meanwhile is negative.
    """
    if expected >= 0 and rows[expected, 0] == key and rows[expected, 1] >= 0:
        return np.int64(-1), expected
    at = find(cells, rows, key)
    return at, np.int64(cells[at]) - 1


@compiled
def fill(cells: Any, rows: Any, used: Any) -> None:
    """Enter the first ``used`` rows into empty cells; rows whose column 1 is negative are free."""
    for slot in range(used):
        if rows[slot, 1] >= 0:
            cells[find(cells, rows, rows[slot, 0])] = slot + 1


@compiled
def take_slot(free: Any, state: Any) -> Any:
    """Return the row freed last, else the next one; a freed row still holds what it held."""
    if state[FREE]:
        state[FREE] -= 1
        return free[state[FREE]]
    state[USED] += 1
    return np.int64(state[USED] - 1)


@compiled
def give_slot(free: Any, state: Any, slot: Any) -> None:
    """Free a row, which the caller has marked as free; cells still point to it until they are built again."""
    free[state[FREE]] = slot
    state[FREE] += 1
