"""Rows about victims by tick, for as long as a window lasts and as far as there is room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

Columns = dict[str, npt.NDArray[Any]]


class RecentRows:
    """Columns by tick, each with ``victim``; the oldest ticks are forgotten first, always whole."""

    def __init__(self, seconds: int, most: int) -> None:
        """Start empty.

        Args:
            seconds: for which rows are remembered.
            most: rows in all.
        """
        self._seconds, self._most = seconds, most
        self.ticks: list[tuple[int, Columns]] = []

    def add(self, tick: int, rows: Columns) -> None:
        """Take in a tick's rows."""
        self.ticks.append((tick, rows))

    def forget(self, tick: int) -> bool:
        """Let go of what is too old at a tick, or too much; tell whether anything went."""
        rows = 0
        for place in range(len(self.ticks) - 1, -1, -1):
            rows += len(self.ticks[place][1]["victim"])
            if self.ticks[place][0] <= tick - self._seconds or rows > self._most:
                del self.ticks[: place + 1]
                return True
        return False

    def snapshot(self) -> list[Any]:
        """Return the rows as arrays by tick."""
        return [[tick, rows] for tick, rows in self.ticks]

    def restore(self, state: Sequence[Any]) -> None:
        """Take in what ``snapshot`` gave."""
        self.ticks = [(int(tick), rows) for tick, rows in state]
