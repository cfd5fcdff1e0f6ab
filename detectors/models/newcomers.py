"""Which pairs a node has not told of lately: the few rows that habits are learned from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.hashing import U64
from detectors.index import I64, positions
from detectors.kernels.windows import renew
from detectors.slots import Slots

AGAIN = 3600  # s after which a pair is told of again, so that habits stay known
PER_TICK = 16  # told per node and tick; others wait for the next ticks
_WAITING = 1 << 14  # of one node; more are left out and counted


class Newcomers:
    """Gives the rows whose key was not told of in this hour, a bounded number per node and tick."""

    def __init__(self, pairs: int, width: int) -> None:
        """Start empty.

        Args:
            pairs: keys remembered, on all nodes together; without room a key is told of again.
            width: int64 numbers of a row.
        """
        self._known = Slots(pairs, 2)
        self._none: I64 = np.zeros((0, width), np.int64)
        self._waiting: dict[int, I64] = {}
        self.left_out: dict[int, int] = {}

    def new(self, tick: int, keys: U64) -> I64:
        """Return which keys were not told of in this hour, and remember that they are now."""
        known = self._known
        known.make_room(len(keys))
        new = renew(known.cells, known.rows, known.free, known.state, known.capacity, keys.view(np.int64),
                    tick // AGAIN, 2)  # fmt: skip
        return positions(new)

    def turn(self, node: int, rows: I64) -> I64:
        """Put rows in line and return those whose turn it is."""
        waiting = self._waiting.get(node, self._none)
        if len(rows):
            room = max(0, _WAITING - len(waiting))
            if len(rows) > room:
                self.left_out[node] = self.left_out.get(node, 0) + len(rows) - room
            waiting = np.concatenate([waiting, rows[:room]])
        now, self._waiting[node] = waiting[:PER_TICK], waiting[PER_TICK:]
        return now

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return what is known and what waits."""
        known = {f"known.{name}": values for name, values in self._known.snapshot().items()}
        waiting = {f"waiting.{node}": rows for node, rows in sorted(self._waiting.items())}
        return known | waiting | {"left_out": np.array(sorted(self.left_out.items()), np.int64).reshape(-1, 2)}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave."""
        known = {n.removeprefix("known."): v for n, v in state.items() if n.startswith("known.")}
        self._known.restore(known, np.array(known["rows"]))
        waiting = {n.removeprefix("waiting."): v for n, v in state.items() if n.startswith("waiting.")}
        self._waiting = {int(node): np.array(rows, np.int64) for node, rows in waiting.items()}
        self.left_out = {int(node): int(count) for node, count in state["left_out"]}
