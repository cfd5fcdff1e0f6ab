"""Channels: a row per (node, source, destination, service), the numbers that each call changes first.

A row is ``key, touched, node, last call, calls, failed calls, sent, received, gaps, pauses, sum of pauses, sum
of their squares, service, since, source, service key, source address, destination address, regular`` and
a histogram of gaps. ``touched`` is -1 in a row that is free. ``tallies`` has a row per node: channels, channels shed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detectors.kernels.cells import FREE, USED, expect, give_slot, look, take_slot
from detectors.kernels.compiled import compiled

(KEY, TOUCHED, NODE, LAST_MS, CALLS, FAILED, SENT, RECEIVED, GAPS, PAUSES, PAUSE_SUM, PAUSE_SQUARES, SERVICE,
 SINCE, SOURCE, SERVICE_KEY, SRC) = range(17)  # fmt: skip
DST = SRC + 2
REGULAR = DST + 2
BINS = REGULAR + 1
HELD, SHED = 0, 1
ABSENT, WAITING = -1, -2

_MOST = np.int64(1 << 62)  # where sums stop


@compiled
def meet(cells: Any, rows: Any, free: Any, state: Any, tallies: Any, limits: Any, keys: Any, nodes: Any, ticks: Any,
         opens: Any) -> Any:  # fmt: skip
    """Find channels, and admit absent ones that opened a connection.

    Args:
        cells, rows, free, state: the table.
        tallies: int64, shape (nodes, 2).
        limits: channels in all, channels per node, new ones per node and call, s that an untouched one is remembered.
        keys, nodes, ticks: int64, one entry per channel, no key twice; one tick per node.
        opens: bool.

    Returns:
        int64 slot of each, ``ABSENT`` where it has none, ``WAITING`` where room would have to be made; bool, whether
        its row was set up now.
    """
    capacity, share, most, memory = limits[0], limits[1], limits[2], limits[3]
    slots = np.empty(len(keys), np.int64)
    fresh = np.zeros(len(keys), np.bool_)
    new = np.zeros(len(tallies), np.int64)
    expected = expect(cells, rows, keys)
    for i in range(len(keys)):
        node, tick = nodes[i], ticks[i]
        at, slot = look(cells, rows, keys[i], expected[i])
        over = slot >= 0 and rows[slot, TOUCHED] <= tick - memory
        if slot >= 0 and not over:
            rows[slot, TOUCHED] = tick
            slots[i] = slot
            continue
        slots[i] = ABSENT
        if not opens[i]:
            continue
        if new[node] >= most:
            tallies[node, SHED] += 1
            continue
        new[node] += 1
        if not over:
            if tallies[node, HELD] >= share or state[USED] - state[FREE] >= capacity:
                slots[i] = WAITING
                continue
            tallies[node, HELD] += 1
            slot = take_slot(free, state)
            cells[at] = slot + 1
        rows[slot] = 0
        rows[slot, KEY], rows[slot, TOUCHED], rows[slot, NODE], rows[slot, SINCE] = keys[i], tick, node, tick
        slots[i] = slot
        fresh[i] = True
    return slots, fresh


@compiled
def drop(rows: Any, free: Any, state: Any, tallies: Any, slots: Any) -> None:
    """Free rows; the cells must be built again."""
    for i in range(len(slots)):
        rows[slots[i], TOUCHED] = -1
        tallies[rows[slots[i], NODE], HELD] -= 1
        give_slot(free, state, slots[i])


@compiled
def _add(row: Any, column: Any, amount: Any) -> None:
    row[column] = min(row[column] + min(amount, _MOST), _MOST)


@compiled
def _call(row: Any, began: Any, dead: Any, edges: Any, most: Any) -> None:
    """Note a call: a gap of less than ``dead`` ms is none; above ``most`` gaps the older half is forgotten."""
    if row[LAST_MS] == 0:
        row[LAST_MS] = began
        return
    gap = began - row[LAST_MS]
    if gap < dead:
        return
    row[LAST_MS] = began
    low, high = 0, len(edges)
    while low < high:
        middle = (low + high) // 2
        if gap < edges[middle]:
            high = middle
        else:
            low = middle + 1
    row[BINS + low] += 1
    row[GAPS] += 1
    if row[GAPS] > most:
        left = 0
        for b in range(BINS, BINS + len(edges) + 1):
            row[b] //= 2
            left += row[b]
        row[GAPS] = left


@compiled
def note(rows: Any, slots: Any, amounts: Any, began: Any, edges: Any, dead: Any, most: Any, limits: Any) -> Any:
    """Add one tick's sums to channels, and tell which of them are worth judging.

    Args:
        rows: the table's.
        slots: int64, negative: none.
        amounts: calls, failed, sent, received, pauses, sum of pauses, sum of squares; int64, shape (7, n).
        began: ms since epoch of the first connection that each opened in the tick; -1: none.
        edges, dead, most: of `_call`.
        limits: gaps, failed calls, bytes of a call.

    Returns:
        Bool: it has more gaps or pauses than the limit and its calls are small enough, or it failed more often.
    """
    judged = np.zeros(len(slots), np.bool_)
    gaps, failed, small = limits[0], limits[1], limits[2]
    for i in range(len(slots)):
        if slots[i] < 0:
            continue
        row = rows[slots[i]]
        for s in range(4):
            _add(row, CALLS + s, amounts[s, i])
        if amounts[4, i]:
            for s in range(3):
                _add(row, PAUSES + s, amounts[4 + s, i])
        if began[i] >= 0:
            _call(row, began[i], dead, edges, most)
        elif amounts[1, i] == 0 and amounts[4, i] == 0:
            continue
        volume = row[SENT] + row[RECEIVED]
        # Where half of the gaps are in the first bin, calls come so fast that nothing can be told of them.
        calls = row[GAPS] > gaps and 2 * row[BINS] < row[GAPS] and volume <= small * max(row[CALLS], 1)
        pauses = row[PAUSES] > gaps and volume <= small * row[PAUSES]
        judged[i] = calls or pauses or row[FAILED] > failed
        if not judged[i]:
            row[REGULAR] = 0
    return judged


@compiled
def spread_of_gaps(rows: Any, slots: Any, dead: Any, middle: Any, inside: Any, clip: Any) -> Any:
    """Return per channel the spread and the median of its gaps, as `detectors.channels.regularity` explains.

    Args:
        rows: the table's.
        slots: int64.
        dead: ms that are no gap.
        middle: middle of each bin, ms.
        inside: variance of an even law over each bin, ms².
        clip: medians from which on a gap counts as that long.

    Returns:
        Deviation to mean, float64; number of the bin of the median, int64.
    """
    spread = np.zeros(len(slots), np.float64)
    median = np.zeros(len(slots), np.int64)
    for i in range(len(slots)):
        row = rows[slots[i]]
        count = max(row[GAPS], 1)
        # Bins above the longest gap add nothing.
        reached, at, end = 0, -1, 0
        while end < len(middle) and reached < count:
            reached += row[BINS + end]
            if at < 0 and 2 * reached >= count:
                at = end
            end += 1
        at = max(at, 0)
        median[i] = at
        usual = middle[at] - dead
        mean = 0.0
        for b in range(end):
            mean += row[BINS + b] * min(middle[b] - dead, clip * usual)
        mean /= count
        variance, even = 0.0, 0.0
        for b in range(end):
            off = min(middle[b] - dead, clip * usual) - mean
            variance += row[BINS + b] * off * off
            even += row[BINS + b] * inside[b]
        variance = variance / count + min(even / count, (usual / 2) ** 2)
        spread[i] = np.sqrt(variance) / max(mean, 1.0)
    return spread, median


@compiled
def heads(rows: Any, slots: Any) -> Any:
    """Return copies of the numbers of channels in front of their histograms; int64, shape (n, BINS)."""
    out = np.empty((len(slots), BINS), np.int64)
    for i in range(len(slots)):
        out[i] = rows[slots[i], :BINS]
    return out
