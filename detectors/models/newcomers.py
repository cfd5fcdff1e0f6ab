"""Which pairs a node has not told of lately: the few rows that habits are learned from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.index import I64, positions
from detectors.lately import Lately
from detectors.mixing import U64

AGAIN = 3600  # s after which a pair is told of again, so that habits stay known
PER_TICK = 8  # told per node and tick; others wait for the next ticks
_WAITING = 1 << 14  # of one node; more are left out and counted


class Newcomers:
    """Gives the rows whose key was not told of in this hour, a bounded number per node and tick."""

    def __init__(self, pairs: int, width: int) -> None:
        """Start empty.

        Args:
            pairs: keys remembered, on all nodes together; without room a key is told of again.
            width: int64 numbers of a row.
        """
        self._known = Lately(pairs, AGAIN)
        self._none: I64 = np.zeros((0, width), np.int64)
        self._waiting: dict[int, I64] = {}
        self.left_out: dict[int, int] = {}

    def new(self, keys: U64, ticks: I64) -> I64:
        """Return which keys were not told of in the hour of their tick, and remember that they are now; ascending."""
        return positions(self._known.fresh(keys, ticks))

    def turns(self, nodes: I64, rows: I64, ticks: Mapping[int, int]) -> Iterator[tuple[int, int, I64]]:
        """Put rows in line and return (node, tick, rows whose turn it is) of each node that has any.

        Args:
            nodes: of each row.
            rows: int64, shape (n, width).
            ticks: tick of each node that has one in this round.
        """
        for node, tick in ticks.items():
            waiting = self._waiting.get(node, self._none)
            mine = rows[nodes == node]
            if len(mine):
                room = max(0, _WAITING - len(waiting))
                if len(mine) > room:
                    self.left_out[node] = self.left_out.get(node, 0) + len(mine) - room
                waiting = np.concatenate([waiting, mine[:room]])
            if len(waiting):
                self._waiting[node] = waiting[PER_TICK:]
                yield node, tick, waiting[:PER_TICK]

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return what is known and what waits."""
        waiting = {f"waiting.{node}": rows for node, rows in sorted(self._waiting.items())}
        return (
            self._known.snapshot()
            | waiting
            | {"left_out": np.array(sorted(self.left_out.items()), np.int64).reshape(-1, 2)}
        )

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave."""
        self._known.restore(state)
        waiting = {n.removeprefix("waiting."): v for n, v in state.items() if n.startswith("waiting.")}
        self._waiting = {int(node): np.array(rows, np.int64) for node, rows in waiting.items()}
        self.left_out = {int(node): int(count) for node, count in state["left_out"]}
