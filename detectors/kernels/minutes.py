"""The addresses of every node's present minute: rows of ``key, mark, node, next, address, sums ..., counts ...``.

The rows of one node are a chain: ``heads`` holds the slot + 1 of its latest, ``next`` that of the one before.
The mark is 0 in a row that is used and -1 in one that is free.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detectors.kernels.cells import FREE, USED, combine, expect, give_slot, look, mix, take_slot
from detectors.kernels.compiled import compiled

MARK, NODE, NEXT, ADDRESS, SUMS = 1, 2, 3, 4, 6
LIMIT = 3


@compiled
def gather(cells: Any, rows: Any, free: Any, state: Any, nodes: Any, most: Any,
           owners: Any, keys: Any, words: Any, columns: Any, sums: Any) -> None:  # fmt: skip
    """Add sums to the rows of addresses; new ones above a limit are refused and counted.

    Args:
        cells, rows, free, state: the table.
        nodes: int64, shape (nodes, 4): head of the chain, rows, rows refused, limit of rows.
        most: rows in all.
        owners: int64 node of each address.
        keys: int64 hash of each (node, address).
        words: int64, shape (n, 2), the addresses.
        columns: of the sums in a row, int64.
        sums: int64, shape (columns, n).
    """
    expected = expect(cells, rows, keys)
    for i in range(len(keys)):
        at, slot = look(cells, rows, keys[i], expected[i])
        if slot < 0:
            node = owners[i]
            if nodes[node, 1] >= nodes[node, LIMIT] or state[USED] - state[FREE] >= most:
                nodes[node, 2] += 1
                continue
            reused = state[FREE] > 0
            slot = take_slot(free, state)
            if reused:
                rows[slot] = 0
            rows[slot, 0], rows[slot, NODE], rows[slot, NEXT] = keys[i], node, nodes[node, 0]
            rows[slot, ADDRESS], rows[slot, ADDRESS + 1] = words[i, 0], words[i, 1]
            nodes[node, 0] = slot + 1
            nodes[node, 1] += 1
            cells[at] = slot + 1
        for s in range(len(columns)):
            rows[slot, columns[s]] += sums[s, i]


@compiled
def collect(rows: Any, free: Any, state: Any, nodes: Any, node: Any) -> Any:
    """Free the rows of a node; returns a copy of them, latest first. The cells must be built again."""
    out = np.empty((nodes[node, 1], rows.shape[1]), np.int64)
    slot = nodes[node, 0] - 1
    for i in range(len(out)):
        out[i] = rows[slot]
        rows[slot, MARK] = -1
        give_slot(free, state, slot)
        slot = out[i, NEXT] - 1
    nodes[node, :LIMIT] = 0
    return out


@compiled
def places_of(cells: Any, rows: Any, keys: Any) -> Any:
    """Return the slots of int64 keys, -1 where they have none."""
    slots = expect(cells, rows, keys)
    for i in range(len(keys)):
        _, slots[i] = look(cells, rows, keys[i], slots[i])
    return slots


@compiled
def count_pairs(seen: Any, rows: Any, most: Any, held: Any, slots: Any, keys: Any, elements: Any, column: Any) -> Any:
    """Count the distinct elements of addresses in a column; none are counted above ``most`` pairs.

    Args:
        seen: u64 set of pairs, at most half full afterwards; 0 is empty.
        rows: the table's.
        most: pairs that the set may hold.
        held: pairs that it holds.
        slots: int64 row of each pair's address, -1 where it has none: such pairs are left out.
        keys: int64 hash of each pair's (node, address).
        elements: u64.
        column: of the count; also tells apart the elements of different counts.

    Returns:
        Pairs that it holds now.
    """
    last = len(seen) - 1
    pairs, known = np.empty(len(keys), np.uint64), np.empty(len(keys), np.bool_)
    for i in range(len(keys)):
        pairs[i] = combine(np.uint64(keys[i]), elements[i] + np.uint64(column)) | np.uint64(1)
    # All are looked for at first sight before any is searched: the waits for memory overlap.
    for i in range(len(keys)):
        known[i] = seen[np.int64(mix(pairs[i]) & np.uint64(last))] == pairs[i]
    for i in range(len(keys)):
        if known[i] or slots[i] < 0 or held >= most:
            continue
        at = np.int64(mix(pairs[i]) & np.uint64(last))
        while seen[at] != 0 and seen[at] != pairs[i]:
            at = (at + 1) & last
        if seen[at] == 0:
            seen[at] = pairs[i]
            held += 1
            rows[slots[i], column] += 1
    return held


@compiled
def refill(seen: Any, pairs: Any) -> None:
    """Enter distinct pairs into an empty set."""
    last = len(seen) - 1
    for i in range(len(pairs)):
        at = np.int64(mix(pairs[i]) & np.uint64(last))
        while seen[at] != 0:
            at = (at + 1) & last
        seen[at] = pairs[i]
