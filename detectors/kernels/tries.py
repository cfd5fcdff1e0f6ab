"""Tries of ports in vain: a row per source, with what it tried lately in order.

A row is ``fast, tries`` and then per try ``upper and lower half of the host, tick << 16 | port``. ``fast`` is the last
span in which the source tried more of one host than a slow scanner does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detectors.kernels.compiled import compiled

FAST, TRIES, FIRST = 0, 1, 2
SIZE = 3  # of one try
PORT = 0xFFFF


@compiled
def _has(row: Any, high: Any, low: Any, port: Any) -> Any:
    for at in range(FIRST, FIRST + SIZE * row[TRIES], SIZE):
        if row[at + 2] & PORT == port and row[at + 1] == low and row[at] == high:
            return True
    return False


@compiled
def _is_fast(row: Any, most: Any, span: Any, length: Any) -> Any:
    """Tell whether the last ``most`` tries are all of this span."""
    first = row[TRIES] - most
    return first >= 0 and (row[FIRST + SIZE * first + 2] >> 16) // length == span


@compiled
def _of_one_host(row: Any, most: Any, high: Any, low: Any) -> Any:
    for at in range(FIRST + SIZE * (row[TRIES] - most), FIRST + SIZE * row[TRIES], SIZE):
        if row[at] != high or row[at + 1] != low:
            return False
    return True


@compiled
def _drop(row: Any, count: Any) -> Any:
    """Take the oldest tries out."""
    end = FIRST + SIZE * row[TRIES]
    for at in range(FIRST, end - SIZE * count):
        row[at] = row[at + SIZE * count]
    row[TRIES] -= count


@compiled
def add_tries(rows: Any, slots: Any, hosts: Any, ports: Any, ticks: Any, limits: Any) -> Any:
    """Take in tries, each host and port once.

    Args:
        rows: int64 by slot of a source.
        slots: of each try's source, -1 where it found no room.
        hosts: int64, shape (n, 2), halves of the host's address.
        ports: int64.
        ticks: int64, s since epoch.
        limits: tries of one span that count, length of a span (s), length of the window (s).

    Returns:
        How many tries its source has with each one; 0 where that was not taken in. int64, shape (n,).
    """
    out = np.zeros(len(slots), np.int64)
    most, length, window = limits
    for i in range(len(slots)):
        if slots[i] < 0:
            continue
        row = rows[slots[i]]
        high, low, port, span = hosts[i, 0], hosts[i, 1], ports[i], ticks[i] // length
        if row[FAST] == span:
            continue
        if _is_fast(row, most, span, length):
            # That was no slow scan: fast ones, also those that come again, have detectors of their own.
            if _of_one_host(row, most, high, low) and not _has(row, high, low, port):
                row[FAST] = span
                row[TRIES] -= most
            continue
        old = 0
        while old < row[TRIES] and row[FIRST + SIZE * old + 2] >> 16 <= ticks[i] - window:
            old += 1
        if old:
            _drop(row, old)
        if _has(row, high, low, port):
            continue
        if FIRST + SIZE * (row[TRIES] + 1) > len(row):
            _drop(row, 1)
        at = FIRST + SIZE * row[TRIES]
        row[at], row[at + 1], row[at + 2] = high, low, ticks[i] << 16 | port
        row[TRIES] += 1
        out[i] = row[TRIES]
    return out


@compiled
def _is_scan(row: Any, tries: Any, limits: Any) -> Any:
    """Tell whether a source's first tries began in many spans, and are more than a host's or a source's share.

    Args:
        row: of the source, its tries in order of ticks.
        tries: how many of them.
        limits: spans, ports of one host, tries, length of a span (s).
    """
    least, ports, most, length = limits
    spans, last, worst = 0, np.int64(-1), 0
    for i in range(tries):
        one = FIRST + SIZE * i
        span = (row[one + 2] >> 16) // length
        if span != last:
            spans, last = spans + 1, span
        same = 0
        for at in range(FIRST, FIRST + SIZE * tries, SIZE):
            if row[at] == row[one] and row[at + 1] == row[one + 1]:
                same += 1
        worst = max(worst, same)
    return spans >= least and (worst > ports or tries > most)


@compiled
def suspects(rows: Any, slots: Any, tries: Any, limits: Any) -> Any:
    """Return the last try of each source that was taken in, where the source's tries may be a scan; int64, ascending.

    Args:
        rows, slots: as `add_tries` takes them.
        tries: what that returned.
        limits: spans in which they began, ports of one host, tries, length of a span (s).
    """
    seen = np.zeros(len(rows), np.bool_)
    told = np.zeros(len(slots), np.bool_)
    for back in range(len(slots)):
        i = len(slots) - 1 - back
        if tries[i] > 0 and not seen[slots[i]]:
            seen[slots[i]] = True
            told[i] = tries[i] >= limits[0] and _is_scan(rows[slots[i]], tries[i], limits)
    return told.nonzero()[0]
