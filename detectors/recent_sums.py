"""Sums over a sliding window, for the few entries of a ledger that keep them."""

from __future__ import annotations

from collections.abc import Sequence

BUCKETS = 12  # as the windows of features: exact to a twelfth


def add_recent(buckets: list[list[int]], tick: int, window: int, amounts: Sequence[int]) -> list[int]:
    """Add amounts to the present bucket, drop those that the window has left, and return the window's sums.

    Args:
        buckets: ``[number, sum, sum, ...]`` each, the oldest first; changed.
        tick: s since epoch; never goes back.
        window: s.
        amounts: to add.
    """
    number = tick * BUCKETS // window
    if not buckets or buckets[-1][0] != number:
        buckets.append([number, *(0 for _ in amounts)])
    for place, amount in enumerate(amounts, start=1):
        buckets[-1][place] += amount
    while buckets[0][0] <= number - BUCKETS:
        del buckets[0]
    return [sum(column) for column in list(zip(*buckets, strict=True))[1:]]
