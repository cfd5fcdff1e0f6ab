"""Who calls which service how often: gaps between connections per (source, destination, service), bounded per node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.frame import scoped
from detectors.index import I64, positions
from detectors.kernels import channels as kernel
from detectors.mixing import U64
from detectors.slots import Slots

Array = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]

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

_SUMS = 7  # calls, failed, sent, received, pauses, sum of pauses, sum of squares
_ROWS = 1 << 18  # channels on all nodes together, 108 MB
_WIDTH = kernel.BINS + BINS


class Channels:
    """The channels of all nodes, bounded for each. Which slot a channel has never shows in a result."""

    def __init__(self, share: int, memory: int, capacity: int = _ROWS) -> None:
        """Start empty.

        Args:
            share: channels of one node.
            memory: s that a channel is remembered after it was last touched.
            capacity: channels in all.
        """
        self._table = Slots(capacity, _WIDTH)
        self._tallies: I64 = np.zeros((1, 2), np.int64)
        self._limits = np.array([capacity, share, _ROOM, memory], np.int64)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def rows(self) -> I64:
        """The rows by slot, int64; columns are named in `detectors.kernels.channels`."""
        return self._table.rows

    def touch(self, keys: U64, nodes: I64, ticks: I64, opens: npt.NDArray[np.bool_]) -> tuple[I64, I64]:
        """Find channels, and admit absent ones that opened a connection.

        Args:
            keys: distinct, u64, shape (n,).
            nodes, ticks: of each, int64; one tick per node.
            opens: whether each opened a connection.

        Returns:
            (slots, negative where absent; positions of keys that are new and whose rows the caller fills).
        """
        most = int(nodes.max(initial=0))
        if most >= len(self._tallies):
            self._tallies = np.concatenate([self._tallies, np.zeros((most + 1, 2), np.int64)])
        slots, fresh = self._meet(keys, nodes, ticks, opens)
        waiting = positions(slots == kernel.WAITING)
        if len(waiting):
            for node in np.unique(nodes[waiting]).tolist():
                mine = waiting[nodes[waiting] == node]
                self._make_room(node, len(mine), int(ticks[mine[0]]))
            self._table.rebuild()
            slots[waiting], fresh[waiting] = self._meet(keys[waiting], nodes[waiting], ticks[waiting], opens[waiting])
            left = waiting[slots[waiting] == kernel.WAITING]
            np.add.at(self._tallies[:, kernel.SHED], nodes[left], 1)
        return slots, positions(fresh)

    def _meet(self, keys: U64, nodes: I64, ticks: I64, opens: npt.NDArray[np.bool_]) -> tuple[I64, Array]:
        table = self._table
        table.make_room(len(keys))
        slots, fresh = kernel.meet(
            table.cells, table.rows, table.free, table.state, self._tallies, self._limits, keys.view(np.int64), nodes,
            ticks, opens,
        )  # fmt: skip
        return slots, fresh

    def _make_room(self, node: int, count: int, tick: int) -> None:
        """Free the channels of a node that are forgotten, then as many young ones as are needed, the oldest first."""
        rows, memory = self.rows, int(self._limits[3])
        live = self._live(node)
        ended = rows[live, kernel.TOUCHED] <= tick - memory
        self._drop(live[ended])
        live = live[~ended]
        young = live[(rows[live, kernel.GAPS] < _YOUNG) & (rows[live, kernel.TOUCHED] < tick)]
        order = np.lexsort((rows[young, kernel.KEY], rows[young, kernel.TOUCHED]))
        over = int(self._tallies[node, kernel.HELD]) + count - int(self._limits[1])
        pushed = young[order[: max(0, over)]]
        self._drop(pushed)
        self._tallies[node, kernel.SHED] += len(pushed)

    def _live(self, node: int) -> I64:
        rows = self.rows[: self._table.used]
        return positions((rows[:, kernel.NODE] == node) & (rows[:, kernel.TOUCHED] >= 0))

    def _drop(self, slots: I64) -> None:
        kernel.drop(self.rows, self._table.free, self._table.state, self._tallies, slots)

    def note(self, slots: I64, amounts: I64, began_ms: I64, limits: tuple[int, int, int]) -> I64:
        """Add one tick's sums and calls to channels; return the positions of those that are worth judging.

        Args:
            slots: different ones, negative: none.
            amounts: calls, failed, sent, received, pauses, sum of pauses (ms) and of their squares; shape (7, n).
            began_ms: of the first connection that each opened, -1: none; it is a call.
            limits: gaps, failed calls and bytes of a call, up to which there is nothing to judge.
        """
        worth = kernel.note(
            self.rows, slots, amounts, began_ms, EDGES_MS, DEAD_MS, _MOST_GAPS, np.array(limits, np.int64)
        )
        return positions(worth)

    def heads(self, slots: I64) -> I64:
        """Return copies of the rows of given channels, without their histograms."""
        copied: I64 = kernel.heads(self.rows, slots)
        return copied

    def callers(self, slots: I64) -> I64:
        """Return for given channels how many sources call the same service on their node."""
        return self._equal(kernel.SERVICE_KEY, slots, np.ones(self._table.used, np.bool_))

    def regular_callers(self, slot: int, most: int) -> list[bytes]:
        """Return the packed addresses, in order, of the first sources that call the same service regularly."""
        rows = self.rows[: self._table.used]
        same = (rows[:, kernel.SERVICE_KEY] == rows[slot, kernel.SERVICE_KEY]) & (rows[:, kernel.TOUCHED] >= 0)
        same &= (rows[:, kernel.NODE] == rows[slot, kernel.NODE]) & (rows[:, kernel.REGULAR] == 1)
        return sorted(row.tobytes() for row in rows[same, kernel.SRC : kernel.DST])[:most]

    def targets(self, slots: I64) -> I64:
        """Return for given channels how many services their source calls regularly on their node."""
        return self._equal(kernel.SOURCE, slots, self.rows[: self._table.used, kernel.REGULAR] == 1)

    def _equal(self, column: int, slots: I64, among: npt.NDArray[np.bool_]) -> I64:
        """Count the channels that have a column's value and the node in common with each of some."""
        live = self.rows[positions(among & (self.rows[: self._table.used, kernel.TOUCHED] >= 0))]
        keys = scoped(live[:, kernel.NODE], live[:, column].view(np.uint64))
        rows = self.rows[slots]
        asked, place = np.unique(scoped(rows[:, kernel.NODE], rows[:, column].view(np.uint64)), return_inverse=True)
        at = np.minimum(np.searchsorted(asked, keys), len(asked) - 1)
        counts: I64 = np.bincount(at[asked[at] == keys], minlength=len(asked))[place]
        return counts

    def shed(self) -> dict[int, int]:
        """Return the channels that were pushed out or not taken in for lack of room so far, by node."""
        counts = self._tallies[:, kernel.SHED]
        return {node: int(counts[node]) for node in positions(counts > 0).tolist()}

    def snapshot(self) -> dict[str, Array]:
        """Return the channels: views, valid until the next change."""
        return {**self._table.snapshot(), "tallies": self._tallies}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take in what ``snapshot`` gave.

        Raises:
            ValueError: it is damaged.
        """
        rows, tallies = np.array(state["rows"]), np.array(state["tallies"])
        nodes = rows[rows[:, kernel.TOUCHED] >= 0, kernel.NODE]
        if len(nodes) and (nodes.min() < 0 or nodes.max() >= len(tallies)):
            problem = "a channel belongs to no node of its table"
            raise ValueError(problem)
        self._table.restore(state, rows)
        self._tallies = tallies


def regularity(rows: I64, slots: I64) -> tuple[F64, F64, F64]:
    """Return per channel (nats, spread, median gap in s) of its calls.

    ``spread`` is the deviation of gaps divided by their mean, each less the dead second, and scaled so that calls at
    random times have 1. ``nats`` is how unlikely so small a spread is where calls come at random: the number of gaps
    but one times ln(1/spread) - (1 - spread²)/2, the divergence of two normal laws of equal mean and different
    deviation, which is below that of a gamma law from the exponential one.

    Args:
        rows: of all channels.
        slots: of those asked for.
    """
    spread, median = kernel.spread_of_gaps(rows, slots, DEAD_MS, _MIDDLE_MS, _INSIDE_MS, _CLIP)
    spread /= _EXPONENTIAL
    # Several calls a second at random leave gaps of just over the dead second, all in the first bin.
    nats = np.where(median == 0, 0.0, _nats(spread, rows[slots, kernel.GAPS]))
    return nats, spread, _MIDDLE_MS[median] / 1000


def pause_regularity(rows: I64) -> tuple[F64, F64, F64]:
    """Return per channel (nats, spread, mean pause in s) of the quiet gaps inside its connections.

    Args:
        rows: of these channels, or the heads of their rows.
    """
    count = np.maximum(rows[:, kernel.PAUSES], 1).astype(np.float64)
    mean = rows[:, kernel.PAUSE_SUM] / count
    variance = np.maximum(0.0, rows[:, kernel.PAUSE_SQUARES] / count - mean**2)
    spread = np.sqrt(variance) / np.maximum(mean - DEAD_MS, 1.0)
    return _nats(spread, rows[:, kernel.PAUSES]), spread, mean / 1000


def _nats(spread: F64, count: I64) -> F64:
    c = np.clip(spread, _SHARPEST, 1.0)
    nats: F64 = np.maximum(count - 1, 0) * (-np.log(c) - (1 - c * c) / 2)
    return nats
