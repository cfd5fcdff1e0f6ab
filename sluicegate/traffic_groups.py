"""Sums by key over any number of rows in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

# Rows gathered before they are summed, and groups kept after it: a few tens of megabytes each.
GATHER_ROWS = 500_000
KEEP_GROUPS = 200_000


class Grouped:
    """Sums of some columns by the values of others.

    Where more than ``keep`` groups come up, those with the smallest first sum are forgotten; ``forgotten``
    counts them. What is left of a forgotten group's later rows makes a new group, so the totals of large
    groups are exact and those near the bottom are not.
    """

    def __init__(self, keys: Sequence[str], sums: Sequence[str], keep: int = KEEP_GROUPS) -> None:
        self._keys, self._sums, self._keep = list(keys), list(sums), keep
        self._parts: list[pa.Table] = []
        self._gathered = 0
        self.forgotten = 0

    def add(self, columns: dict[str, pa.Array]) -> None:
        """Take rows; every array has the same length, the sums are int64."""
        table = pa.table({name: columns[name] for name in [*self._keys, *self._sums]})
        if table.num_rows:
            self._parts.append(table)
            self._gathered += table.num_rows
            if self._gathered >= GATHER_ROWS:
                self._fold()

    def _fold(self) -> None:
        if not self._parts:
            return
        whole = pa.concat_tables(self._parts)
        made = whole.group_by(self._keys, use_threads=False).aggregate([(name, "sum") for name in self._sums])
        made = made.rename_columns([n.removesuffix("_sum") if n not in self._keys else n for n in made.column_names])
        if made.num_rows > self._keep:
            self.forgotten += made.num_rows - self._keep
            made = made.sort_by([(self._sums[0], "descending")]).slice(0, self._keep)
        self._parts, self._gathered = [made.select([*self._keys, *self._sums])], made.num_rows

    def __len__(self) -> int:
        """Number of groups."""
        self._fold()
        return int(self._parts[0].num_rows) if self._parts else 0

    def top(self, count: int, by: str | None = None) -> list[dict[str, Any]]:
        """Return the groups with the largest sums, equal ones by key."""
        self._fold()
        if not self._parts:
            return []
        order = [(by or self._sums[0], "descending"), *((key, "ascending") for key in self._keys)]
        rows: list[dict[str, Any]] = self._parts[0].sort_by(order).slice(0, count).to_pylist()
        return rows

    def total(self, column: str) -> int:
        """Return a column's sum over all groups kept."""
        self._fold()
        return int(sum(self._parts[0].column(column).to_pylist())) if self._parts else 0
