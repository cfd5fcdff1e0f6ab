"""Who spoke to a victim the most within the last minute, to be named in findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from detectors.grouping import Grouping
from detectors.index import I64, positions
from detectors.mixing import hash_addresses
from detectors.recent_rows import Columns, RecentRows
from schemas.addresses import unpack

_NAMED = 20  # sources of a victim that a finding may name
_SECONDS = 60  # for which sources are remembered
_ROWS = 100_000  # of them at most, about 5 MB; the oldest are forgotten first


class RecentSources:
    """Rows of the busiest sources of victims, by tick."""

    def __init__(self, sums: Sequence[str]) -> None:
        """Start empty.

        Args:
            sums: names of the columns that are added up; by the first of them sources are ordered.
        """
        self._sums = tuple(sums)
        self._rows = RecentRows(_SECONDS, _ROWS)
        self._joined: Columns | None = None  # all rows as one, made when they are first asked for

    def add(self, tick: int, rows: Columns) -> None:
        """Take in a tick's rows: ``victim`` (a hash, u64), ``src`` (16 bytes) and the sums."""
        self._rows.add(tick, rows)
        self._joined = None

    def forget(self, tick: int) -> None:
        """Let go of what is older than a minute at a tick, or too much."""
        if self._rows.forget(tick):
            self._joined = None

    def busiest(self, victim: int) -> list[tuple[str, list[int]]]:
        """Return (address, sums) of a victim's sources, those with the largest first sum first."""
        if not self._rows.ticks:
            return []
        if self._joined is None:
            names = ("victim", "src", *self._sums)
            self._joined = {name: np.concatenate([rows[name] for _, rows in self._rows.ticks]) for name in names}
        joined = self._joined
        rows = positions(joined["victim"] == np.uint64(victim))
        src = joined["src"][rows]
        sources = Grouping.equal(hash_addresses(src))
        src = np.ascontiguousarray(src[sources.first])
        totals: list[I64] = [sources.total(joined[name][rows]) for name in self._sums]
        halves = src.view(">u8")
        order = np.lexsort((halves[:, 1], halves[:, 0], -totals[0]))[:_NAMED]
        return [(unpack(src[at].tobytes()), [int(total[at]) for total in totals]) for at in order.tolist()]

    def snapshot(self) -> list[Any]:
        """Return the rows as arrays by tick."""
        return self._rows.snapshot()

    def restore(self, state: Sequence[Any]) -> None:
        """Take in what ``snapshot`` gave."""
        self._rows.restore(state)
        self._joined = None
