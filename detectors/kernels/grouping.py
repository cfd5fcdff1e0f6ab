"""Numbering of equal rows, and sums by number. Numbers are given in order of first appearance."""

from __future__ import annotations

from typing import Any

import numpy as np

from detectors.kernels.cells import mix
from detectors.kernels.compiled import compiled


@compiled
def _cells(count: Any) -> Any:
    size = 16
    while size < 2 * count:
        size *= 2
    return np.zeros(size, np.int32)


@compiled
def number_words(one: Any, two: Any) -> Any:
    """Number equal pairs of int64.

    Returns:
        int32 number of each pair; int64 position of each number's first pair.
    """
    count = len(one)
    cells = _cells(count)
    last = len(cells) - 1
    number = np.empty(count, np.int32)
    first = np.empty(count, np.int64)
    found = 0
    for i in range(count):
        at = np.int64(mix(np.uint64(one[i]) ^ mix(np.uint64(two[i]))) & np.uint64(last))
        while True:
            known = cells[at]
            if known == 0:
                first[found] = i
                number[i] = found
                found += 1
                cells[at] = found
                break
            other = first[known - 1]
            if one[other] == one[i] and two[other] == two[i]:
                number[i] = known - 1
                break
            at = (at + 1) & last
    return number, first[:found].copy()


@compiled
def number_small(values: Any, end: Any) -> Any:
    """Number equal int64 values, all in ``0 .. end - 1``; returns what `number_words` does."""
    known = np.zeros(end, np.int32)
    number = np.empty(len(values), np.int32)
    first = np.empty(min(len(values), end), np.int64)
    found = 0
    for i in range(len(values)):
        if known[values[i]] == 0:
            first[found] = i
            found += 1
            known[values[i]] = found
        number[i] = known[values[i]] - 1
    return number, first[:found].copy()


@compiled
def number_by_place(members: Any, place: Any, ids: Any, end: Any) -> Any:
    """Number the equal ones among small numbers within each place; returns what `number_words` does.

    Args:
        members: int64, positions of the entries; those of one place stand together.
        place: by position, not negative.
        ids: by position, all in ``0 .. end - 1``.
    """
    seen = np.full(end, -1, np.int64)
    known = np.empty(end, np.int32)
    number = np.empty(len(members), np.int32)
    first = np.empty(len(members), np.int64)
    found = 0
    for i in range(len(members)):
        one, where = ids[members[i]], place[members[i]]
        if seen[one] != where:
            seen[one], known[one] = where, found
            first[found] = i
            found += 1
        number[i] = known[one]
    return number, first[:found].copy()


@compiled
def sum_members(number: Any, members: Any, values: Any, count: Any) -> Any:
    """Sum int64 values of members, positions, by their int32 number; int64, shape (count,)."""
    out = np.zeros(count, np.int64)
    for i in range(len(number)):
        out[number[i]] += values[members[i]]
    return out


@compiled
def sum_by(number: Any, values: Any, count: Any) -> Any:
    """Sum int64 values by their int32 number; int64, shape (count,)."""
    out = np.zeros(count, np.int64)
    for i in range(len(number)):
        out[number[i]] += values[i]
    return out


@compiled
def sum_columns(number: Any, values: Any, count: Any) -> Any:
    """Sum rows of int64 by their int32 number; int64, shape (count, columns)."""
    width = values.shape[1]
    out = np.zeros((count, width), np.int64)
    for i in range(len(number)):
        row = number[i]
        for column in range(width):
            out[row, column] += values[i, column]
    return out


@compiled
def best_by(number: Any, values: Any, ties: Any, count: Any) -> Any:
    """Return per number the position of its largest value, among equals the one with the smallest tie; int64."""
    best = np.full(count, -1, np.int64)
    for i in range(len(number)):
        n = number[i]
        b = best[n]
        if b < 0 or values[i] > values[b] or (values[i] == values[b] and ties[i] < ties[b]):
            best[n] = i
    return best


@compiled
def top_by(number: Any, values: Any, ties: Any, count: Any, most: Any) -> Any:
    """Return the positions of the ``most`` largest values of each number, number by number, the largest first; int64.

    Among equal values the smallest tie goes first, among equal ties what came first.
    """
    best = np.empty((count, most), np.int64)
    held = np.zeros(count, np.int64)
    for i in range(len(number)):
        row = best[number[i]]
        at = held[number[i]]
        while at > 0:
            b = row[at - 1]
            if values[b] > values[i] or (values[b] == values[i] and ties[b] <= ties[i]):
                break
            if at < most:
                row[at] = b
            at -= 1
        if at < most:
            row[at] = i
            held[number[i]] = min(held[number[i]] + 1, most)
    out = np.empty(held.sum(), np.int64)
    done = 0
    for n in range(count):
        for at in range(held[n]):
            out[done] = best[n, at]
            done += 1
    return out


@compiled
def rank_by(number: Any, count: Any) -> Any:
    """Return how many entries with the same number stand before each; int64."""
    seen = np.zeros(count, np.int64)
    rank = np.empty(len(number), np.int64)
    for i in range(len(number)):
        rank[i] = seen[number[i]]
        seen[number[i]] += 1
    return rank
