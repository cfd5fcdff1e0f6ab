"""Keys with sliding windows: one int64 row per key, all of a key's numbers side by side.

A row is ``key, last tick, first tick, node`` and then, per window, a block ``clock, running sums, ring`` where the
ring is bucket by bucket, each with one number per feature. ``last`` is -1 in a row that is free.

``windows`` has a row per window: bucket length (s), buckets, start of its block, features.
``state`` holds counters, see the names below; ``clocks`` the last tick of each node.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detectors.kernels.cells import FREE, USED, combine, expect, fill, find, give_slot, look, mix, take_slot
from detectors.kernels.compiled import compiled

KEY, LAST, FIRST, NODE, HEAD = 0, 1, 2, 3, 4
SWEPT, EPOCH, NOW, SHED, EVICTED, DEFERRED, STATES = 2, 3, 4, 5, 6, 7, 8  # after ``cells.USED`` and ``cells.FREE``

SWEEP_SECONDS = 10  # of event time between searches of a crowded table for keys that are over
# A node that has stopped no longer moves its clock; its keys are over this long after everybody else's would be.
STOPPED_SECONDS = 900
SKETCH_SECONDS = 60  # for which the sketch remembers
SKETCH_CELLS = 1 << 20  # in each of two rows: 2 MiB in all; one in a hundred false at a million keys
ADMIT_AFTER = 4  # things done within the sketch's memory that make a new key matter


@compiled
def advance(rows: Any, slots: Any, ticks: Any, windows: Any) -> None:
    """Move the windows of rows to the buckets of their ticks, emptying those that come round again; -1 is no row.

    Window by window, and the clocks of all rows before the first ring: no step waits for memory that the one before
    asked for.
    """
    gaps = np.zeros(len(slots), np.int64)
    for w in range(len(windows)):
        bucket, buckets, base, features = windows[w, 0], windows[w, 1], windows[w, 2], windows[w, 3]
        known, now = np.int64(-1), np.int64(0)
        for i in range(len(slots)):
            if ticks[i] != known:  # divisions cost as much as the rest, and ticks of a round are nearly all the same
                known = ticks[i]
                now = known // bucket
            gaps[i] = now - rows[max(slots[i], 0), base] if slots[i] >= 0 else 0
        for i in range(len(slots)):
            if gaps[i] > 0:
                _turn(rows[slots[i]], base, features, buckets, gaps[i])


@compiled
def _turn(row: Any, base: Any, features: Any, buckets: Any, gap: Any) -> None:
    ring, clock = base + 1 + features, row[base]
    row[base] = clock + gap
    if gap >= buckets:
        row[base + 1 : ring + buckets * features] = 0
        return
    for step in range(clock + 1, clock + gap + 1):
        at = ring + (step % buckets) * features
        for f in range(features):
            row[base + 1 + f] -= row[at + f]
            row[at + f] = 0


@compiled
def _over(rows: Any, slot: Any, clocks: Any, now: Any, horizon: Any) -> Any:
    over = rows[slot, LAST] + horizon
    return over < clocks[rows[slot, NODE]] or over + STOPPED_SECONDS < now


@compiled
def sweep(cells: Any, rows: Any, free: Any, state: Any, clocks: Any, horizon: Any) -> None:
    """Free the rows that no window holds anything of any more, and build the cells again."""
    gone = 0
    for slot in range(state[USED]):
        if rows[slot, LAST] >= 0 and _over(rows, slot, clocks, state[NOW], horizon):
            rows[slot, LAST] = -1
            give_slot(free, state, slot)
            gone += 1
    state[EVICTED] += gone
    if gone:
        cells[:] = 0
        fill(cells, rows, state[USED])


@compiled
def _matters(sketch: Any, state: Any, key: Any, weight: Any, tick: Any) -> Any:
    """Count a key that is not kept yet; tell whether it has done enough to be."""
    epoch = tick // SKETCH_SECONDS
    if epoch > state[EPOCH]:
        sketch[:] = 0
        state[EPOCH] = epoch
    if weight >= ADMIT_AFTER:
        return True
    hashed = mix(np.uint64(key) ^ np.uint64(0xA5A5A5A5A5A5A5A5))
    one = np.int64(hashed & np.uint64(SKETCH_CELLS - 1))
    two = np.int64((hashed >> np.uint64(32)) & np.uint64(SKETCH_CELLS - 1))
    seen = min(sketch[0, one], sketch[1, two]) + weight
    if seen >= ADMIT_AFTER:
        return True
    # Conservative update: only what bounds the estimate from below is raised.
    sketch[0, one] = max(sketch[0, one], seen)
    sketch[1, two] = max(sketch[1, two], seen)
    return False


@compiled
def _admit(rows: Any, free: Any, state: Any, key: Any, tick: Any, node: Any, windows: Any) -> Any:
    reused = state[FREE] > 0
    slot = take_slot(free, state)
    if reused:
        rows[slot] = 0
    rows[slot, KEY], rows[slot, LAST], rows[slot, FIRST], rows[slot, NODE] = key, tick, tick, node
    for w in range(len(windows)):
        rows[slot, windows[w, 2]] = tick // windows[w, 0]
    return slot


@compiled
def touch(cells: Any, rows: Any, free: Any, state: Any, clocks: Any, sketch: Any, windows: Any, limits: Any,
          lost: Any, keys: Any, ticks: Any, nodes: Any, admit: Any, weight: Any) -> Any:  # fmt: skip
    """Find or admit keys, in the order given, and move their windows to their ticks.

    Args:
        cells, rows, free, state, clocks, sketch, windows: the table.
        limits: capacity, keys below which every new one is admitted, horizon (s).
        lost: int64, shape (nodes, 2): counts keys refused and keys turned away.
        keys, ticks, nodes: int64, one entry per key.
        admit: false where an absent key is not worth a slot.
        weight: things that each key did, int64; decides who is admitted to a crowded table.

    Returns:
        int64 slot of each key, -1 where it has none; bool, whether it was admitted now.
    """
    capacity, roomy, horizon = limits[0], limits[1], limits[2]
    slots = np.empty(len(keys), np.int64)
    fresh = np.zeros(len(keys), np.bool_)
    expected = expect(cells, rows, keys)
    for i in range(len(keys)):
        tick, node = ticks[i], nodes[i]
        clocks[node] = max(clocks[node], tick)
        state[NOW] = max(state[NOW], tick)
        at, slot = look(cells, rows, keys[i], expected[i])
        if slot < 0:
            slots[i] = -1
            if not admit[i]:
                continue
            live = state[USED] - state[FREE]
            if live >= roomy and state[NOW] - state[SWEPT] >= SWEEP_SECONDS:
                state[SWEPT] = state[NOW]
                sweep(cells, rows, free, state, clocks, horizon)
                at = find(cells, rows, keys[i])
                live = state[USED] - state[FREE]
            if live >= capacity:
                state[SHED] += 1
                lost[node, 0] += 1
                continue
            if live >= roomy and not _matters(sketch, state, keys[i], weight[i], tick):
                state[DEFERRED] += 1
                lost[node, 1] += 1
                continue
            slot = _admit(rows, free, state, keys[i], tick, node, windows)
            cells[at] = slot + 1
            fresh[i] = True
        else:
            rows[slot, LAST] = tick
        slots[i] = slot
    advance(rows, slots, ticks, windows)
    return slots, fresh


@compiled
def add(rows: Any, slots: Any, ticks: Any, amounts: Any, places: Any) -> None:
    """Add to sums of slots touched in these ticks.

    Args:
        rows: the table's.
        slots, ticks: int64, one entry per key, no slot -1.
        amounts: int64, shape (sums, keys).
        places: a row per sum: its window's bucket length, buckets, block, features, and its number among these.
    """
    running, present = np.zeros(len(places), np.int64), np.zeros(len(places), np.int64)
    known = np.int64(-1)
    for i in range(len(slots)):
        if ticks[i] != known:
            known = ticks[i]
            for s in range(len(places)):
                bucket, buckets, base, features, f = (
                    places[s, 0], places[s, 1], places[s, 2], places[s, 3], places[s, 4],
                )  # fmt: skip
                running[s] = base + 1 + f
                present[s] = running[s] + features * (1 + (known // bucket) % buckets)
        row = rows[slots[i]]
        for s in range(len(places)):
            amount = amounts[s, i]
            if amount:
                row[running[s]] += amount
                row[present[s]] += amount


@compiled
def read(rows: Any, slots: Any, column: Any) -> Any:
    """Return one number of each of some rows, int64."""
    out = np.empty(len(slots), np.int64)
    for i in range(len(slots)):
        out[i] = rows[slots[i], column]
    return out


# Pairs: rows of ``key, bucket`` and the state's USED, FREE, SWEPT and SHED. Bucket << 1 | cancelled; -1 is free.

LATE_SECONDS = 60  # by which a node may be behind another before its pairs can be taken for stale


@compiled
def sweep_pairs(cells: Any, pairs: Any, free: Any, state: Any, now: Any, buckets: Any) -> None:
    """Free the pairs that left their window before bucket ``now``, and build the cells again."""
    gone = 0
    for slot in range(state[USED]):
        if pairs[slot, 1] >= 0 and now - (pairs[slot, 1] >> 1) >= buckets:
            pairs[slot, 1] = -1
            give_slot(free, state, slot)
            gone += 1
    state[EVICTED] += gone
    if gone:
        cells[:] = 0
        fill(cells, pairs, state[USED])


@compiled
def _enter(row: Any, now: Any, place: Any, amount: Any) -> None:
    buckets, base, features, f = place[1], place[2], place[3], place[4]
    row[base + 1 + f] += amount
    row[base + 1 + features * (1 + now % buckets) + f] += amount


@compiled
def see(cells: Any, pairs: Any, free: Any, state: Any, rows: Any, lost: Any, place: Any, limits: Any,
        owners: Any, ticks: Any, elements: Any, cancel: Any) -> None:  # fmt: skip
    """Record (key, element) pairs and count the distinct elements of each key.

    Args:
        cells, pairs, free, state: of the pairs.
        rows: of the keys.
        lost: int64, shape (nodes, 2): counts elements refused.
        place: of the count: bucket length, buckets, block, features of its window, its number among these.
        limits: pairs in all, elements counted per key.
        owners: int64 slot of each pair's key, touched in its tick.
        ticks: int64.
        elements: u64.
        cancel: true where the element is taken out of the count and kept out while it is remembered.
    """
    bucket, buckets, base, f = place[0], place[1], place[2], place[4]
    capacity, cap = limits[0], limits[1]
    known = now = np.int64(-1)
    keys = np.empty(len(owners), np.int64)
    for i in range(len(owners)):
        keys[i] = np.int64(combine(np.uint64(rows[owners[i], KEY]), elements[i]))
    expected = expect(cells, pairs, keys)
    for i in range(len(owners)):
        row, key = rows[owners[i]], keys[i]
        if ticks[i] != known:
            known = ticks[i]
            now = known // bucket
        at, slot = look(cells, pairs, key, expected[i])
        out = 1 if cancel[i] else 0
        if slot >= 0:
            before, was_out = pairs[slot, 1] >> 1, pairs[slot, 1] & 1
            # A pair from before its key was admitted (again) is counted nowhere.
            remembered = now - before < buckets and before >= row[FIRST] // bucket
            if remembered and not was_out:
                _enter(row, before, place, -1)
            out |= was_out if remembered else 0
            if not out:
                _enter(row, now, place, 1)
            pairs[slot, 1] = now << 1 | out
            continue
        if row[base + 1 + f] >= cap:
            continue
        if state[USED] - state[FREE] >= capacity:
            if ticks[i] - state[SWEPT] >= bucket:
                state[SWEPT] = ticks[i]
                sweep_pairs(cells, pairs, free, state, now - LATE_SECONDS // bucket, buckets)
                at = find(cells, pairs, key)
            if state[USED] - state[FREE] >= capacity:
                state[SHED] += 1
                lost[row[NODE], 0] += 1
                continue
        slot = take_slot(free, state)
        pairs[slot, 0], pairs[slot, 1] = key, now << 1 | out
        cells[at] = slot + 1
        if not out:
            _enter(row, now, place, 1)


@compiled
def renew(cells: Any, pairs: Any, free: Any, state: Any, capacity: Any, keys: Any, nows: Any, buckets: Any) -> Any:
    """Tell which keys were not seen in their present bucket yet, and remember that they were; a full table says yes.

    Args:
        cells, pairs, free, state: of the pairs.
        capacity: pairs in all.
        keys: int64.
        nows: present bucket of each, int64.
        buckets: for which a key is worth remembering.
    """
    out = np.ones(len(keys), np.bool_)
    expected = expect(cells, pairs, keys)
    for i in range(len(keys)):
        now = nows[i]
        at, slot = look(cells, pairs, keys[i], expected[i])
        if slot >= 0:
            out[i] = pairs[slot, 1] >> 1 < now
            pairs[slot, 1] = max(pairs[slot, 1], now << 1)
            continue
        if state[USED] - state[FREE] >= capacity:
            if now > state[SWEPT]:
                state[SWEPT] = now
                sweep_pairs(cells, pairs, free, state, now, buckets)
                at = find(cells, pairs, keys[i])
            if state[USED] - state[FREE] >= capacity:
                state[SHED] += 1
                continue
        slot = take_slot(free, state)
        pairs[slot, 0], pairs[slot, 1] = keys[i], now << 1
        cells[at] = slot + 1
    return out
