"""Who calls which service how often: gaps between connections per (source, destination, service), bounded per node."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.hashing import U64
from detectors.index import I64, KeyIndex, positions

Array = npt.NDArray[Any]

# Connections that begin within a second are one call: clients open several, and repeat what was refused.
DEAD_MS = 1000
BINS = 32
# Gaps by half octaves, from 1 s to 18 hours.
EDGES_MS: I64 = np.rint(DEAD_MS * 2 ** (np.arange(1, BINS) / 2)).astype(np.int64)
_MIDDLE_MS = DEAD_MS * 2 ** ((np.arange(BINS) + 0.5) / 2)
_INSIDE_MS = (DEAD_MS * 2 ** (np.arange(BINS) / 2) * (2**0.5 - 1)) ** 2 / 12  # variance of an even law over a bin, ms²
# Above so many gaps the older half is forgotten, so that what a channel does now outweighs what it did.
_MOST_GAPS = 1024
_YOUNG = 3  # gaps below which a channel gives way to a new one
_ROOM = 1024  # new channels per tick of a node
_CLIP = 4  # longer than so many medians is a pause (night, restart) and counts as that long
# Deviation to mean of exponential gaps cut off at four medians: 1 without the cut (integration by parts).
_EXPONENTIAL = 0.86
_SHARPEST = 0.05  # deviation to mean that bins of half an octave can tell from none

CHANNEL = np.dtype([
    ("key", np.uint64), ("source", np.uint64), ("service_key", np.uint64), ("src", np.uint8, 16), ("dst", np.uint8, 16),
    ("service", np.int64), ("since", np.int64), ("touched", np.int64), ("last_ms", np.int64), ("gaps", np.int64),
    ("sum_ms", np.int64), ("bins", np.int32, BINS), ("calls", np.int64), ("failed", np.int64), ("sent", np.int64),
    ("received", np.int64), ("pauses", np.int64), ("pause_sum", np.int64), ("pause_squares", np.float64),
    ("regular", np.bool_),
])  # fmt: skip


class Channels:
    """The channels of one node. Which slot a channel has never shows in a result.

    Attributes:
        shed: channels that were pushed out or not taken in for lack of room.
    """

    def __init__(self, capacity: int, memory: int) -> None:
        self._index = KeyIndex(capacity)
        self._capacity, self._memory = capacity, memory
        self.rows: Array = np.zeros(0, CHANNEL)
        self.shed = 0

    def __len__(self) -> int:
        return len(self._index)

    def touch(self, keys: U64, tick: int, opens: npt.NDArray[np.bool_]) -> tuple[I64, I64]:
        """Find channels, and admit absent ones that opened a connection.

        Args:
            keys: distinct, u64, shape (n,).
            tick: s since epoch.
            opens: whether each opened a connection.

        Returns:
            (slots, -1 where absent; positions of keys that are new and whose rows the caller fills).
        """
        slots = self._index.lookup(keys)
        found = slots[slots >= 0]
        old = found[self.rows["touched"][found] <= tick - self._memory]
        if len(old):
            self._drop(old)
            slots[np.isin(slots, old)] = -1
        self.rows["touched"][slots[slots >= 0]] = tick
        new = positions((slots < 0) & opens)
        self.shed += max(0, len(new) - _ROOM)
        new = new[:_ROOM]
        self._make_room(len(new), tick)
        slots[new] = self._index.insert(keys[new])
        taken = new[slots[new] >= 0]
        self.shed += len(new) - len(taken)
        self._grow(int(slots.max(initial=-1)) + 1)
        self.rows[slots[taken]] = np.zeros(1, CHANNEL)
        for name, value in (("key", keys[taken]), ("since", tick), ("touched", tick)):
            self.rows[name][slots[taken]] = value
        return slots, taken

    def _make_room(self, count: int, tick: int) -> None:
        over = len(self._index) + count - self._capacity
        if over <= 0:
            return
        live = self._index.live()
        ended = live[self.rows["touched"][live] <= tick - self._memory]
        self._drop(ended)
        over -= len(ended)
        live = self._index.live()
        young = live[(self.rows["gaps"][live] < _YOUNG) & (self.rows["touched"][live] < tick)]
        order = np.lexsort((self.rows["key"][young], self.rows["touched"][young]))
        pushed = young[order[: max(0, over)]]
        self._drop(pushed)
        self.shed += len(pushed)

    def _drop(self, slots: I64) -> None:
        self._index.remove(slots)

    def _grow(self, needed: int) -> None:
        if needed > len(self.rows):
            size = min(self._capacity, max(64, 2 * needed))
            self.rows = np.concatenate([self.rows, np.zeros(size - len(self.rows), CHANNEL)])

    def call(self, slots: I64, began_ms: I64) -> None:
        """Note calls: the first connection that each of some channels opened in a tick; slots differ."""
        rows = self.rows
        gap = began_ms - rows["last_ms"][slots]
        first = rows["last_ms"][slots] == 0
        counted = ~first & (gap >= DEAD_MS)
        moved = slots[first | counted]
        rows["last_ms"][moved] = began_ms[first | counted]
        slots, gap = slots[counted], gap[counted]
        rows["bins"][slots, np.searchsorted(EDGES_MS, gap, side="right")] += 1
        rows["gaps"][slots] += 1
        rows["sum_ms"][slots] += gap
        full = slots[rows["gaps"][slots] > _MOST_GAPS]
        if len(full):
            rows["bins"][full] //= 2
            before = rows["gaps"][full]
            rows["gaps"][full] = rows["bins"][full].sum(axis=1)
            rows["sum_ms"][full] = rows["sum_ms"][full] * rows["gaps"][full] // before

    def callers(self, slot: int) -> int:
        """Return how many sources call the same service."""
        live = self._index.live()
        return int((self.rows["service_key"][live] == self.rows["service_key"][slot]).sum())

    def regular_callers(self, slot: int) -> list[bytes]:
        """Return the packed addresses, in order, of the sources that call the same service regularly."""
        live = self._index.live()
        same = live[self.rows["service_key"][live] == self.rows["service_key"][slot]]
        return sorted(bytes(src) for src in self.rows["src"][same[self.rows["regular"][same]]])

    def targets(self, slot: int) -> int:
        """Return how many services the same source calls regularly."""
        live = self._index.live()
        same = self.rows["source"][live] == self.rows["source"][slot]
        return int((same & self.rows["regular"][live]).sum())

    def snapshot(self) -> npt.NDArray[np.uint8]:
        """Return the channels as bytes."""
        live = self.rows[self._index.live()]
        return np.frombuffer(live[np.argsort(live["key"])].tobytes(), np.uint8)

    def restore(self, state: npt.NDArray[np.uint8]) -> None:
        """Take in what ``snapshot`` gave."""
        rows = np.frombuffer(state.tobytes(), CHANNEL)
        self._grow(len(rows))
        self.rows[self._index.insert(rows["key"])] = rows


def regularity(rows: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return per channel (nats, spread, median gap in s) of its calls.

    ``spread`` is the deviation of gaps divided by their mean, each less the dead second, and scaled so that calls at
    random times have 1. ``nats`` is how unlikely so small a spread is where calls come at random: the number of gaps
    but one times ln(1/spread) - (1 - spread²)/2, the divergence of two normal laws of equal mean and different
    deviation, which is below that of a gamma law from the exponential one.
    """
    bins, count = rows["bins"].astype(np.float64), np.maximum(rows["gaps"], 1)
    reached = np.cumsum(bins, axis=1) >= (count / 2)[:, None]
    value = _MIDDLE_MS - DEAD_MS
    median = value[reached.argmax(axis=1)]
    clipped = np.minimum(value[None, :], _CLIP * median[:, None])
    mean = (bins * clipped).sum(axis=1) / count
    # Within its bin a gap may lie anywhere.
    inside = (bins * _INSIDE_MS[None, :]).sum(axis=1) / count
    variance = (bins * (clipped - mean[:, None]) ** 2).sum(axis=1) / count + np.minimum(inside, (median / 2) ** 2)
    spread = np.sqrt(variance) / np.maximum(mean, 1.0) / _EXPONENTIAL
    # Several calls a second at random leave gaps of just over the dead second, all in the first bin.
    fast = median <= value[0]
    return np.where(fast, 0.0, _nats(spread, rows["gaps"])), spread, (median + DEAD_MS) / 1000


def pause_regularity(rows: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return per channel (nats, spread, mean pause in s) of the quiet gaps inside its connections."""
    count = np.maximum(rows["pauses"], 1).astype(np.float64)
    mean = rows["pause_sum"] / count
    variance = np.maximum(0.0, rows["pause_squares"] / count - mean**2)
    spread = np.sqrt(variance) / np.maximum(mean - DEAD_MS, 1.0)
    return _nats(spread, rows["pauses"]), spread, mean / 1000


def _nats(spread: npt.NDArray[np.float64], count: I64) -> npt.NDArray[np.float64]:
    c = np.clip(spread, _SHARPEST, 1.0)
    nats: npt.NDArray[np.float64] = np.maximum(count - 1, 0) * (-np.log(c) - (1 - c * c) / 2)
    return nats
