"""Rows of one kind of one round of ticks, for detectors that look at single rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.columns import Columns
from detectors.hashing import combine, mix
from detectors.index import I64, positions
from detectors.mixing import U64
from detectors.names import hash_strings

Array = npt.NDArray[Any]
Words = tuple[U64, U64]  # upper and lower half of addresses

KEPT_TEXT = 120  # characters of a text that state and findings keep


class TickRows(NamedTuple):
    """Where the rows of one node's tick stand in a frame."""

    node: int
    tick: int
    rows: I64


class RowFrame:
    """One entry per row, in log order; rows of one node's tick stand together."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns)

    def numbers(self, name: str) -> Array:
        """Return a column of plain values."""
        return self._columns.values(name)

    def addresses(self, name: str) -> Words:
        """Return an address column as its upper and lower 64 bits, each u64, shape (n,); 0.0.0.0 is 0, as :: is."""
        halves, number = self._columns.halves(name)
        return halves[number, 0], halves[number, 1]

    def texts(self, name: str) -> tuple[I64, list[str]]:
        """Return a column of words as numbers into a list of the distinct ones, each cut to 120 characters."""
        distinct_words, number = self._columns.words(name)
        return number, [text.replace("\0", "")[:KEPT_TEXT] for text in distinct_words.to_pylist()]

    def text_hashes(self, name: str) -> U64:
        """Return the hash of a column of words per row, u64."""
        distinct_words, number = self._columns.words(name)
        return hash_strings(distinct_words)[number]

    def node_of(self, rows: I64) -> I64:
        """Return the node number of given rows."""
        nodes: I64 = self._columns.by_place("node")[self._columns.place[rows]]
        return nodes

    def tick_of(self, rows: I64) -> I64:
        """Return the tick of given rows, s since epoch."""
        ticks: I64 = self._columns.by_place("tick")[self._columns.place[rows]]
        return ticks

    def heard(self) -> Iterator[tuple[int, int]]:
        """Return (node, tick) of each tick that has rows."""
        yield from self._columns.ticks_of_nodes().items()

    def ticks(self, chosen: npt.NDArray[np.bool_]) -> Iterator[TickRows]:
        """Return the chosen rows of each node's tick that has any, ordered by node."""
        return self.ticks_of(positions(chosen))

    def ticks_of(self, rows: I64) -> Iterator[TickRows]:
        """Return given rows, ascending, by the node's tick that they are of, ordered by node."""
        for head, mine in self._columns.ticks(rows):
            yield TickRows(head.node, head.tick, mine)


def distinct(columns: Sequence[Array], rows: I64) -> I64:
    """Return the first of equal rows, in log order.

    Rows are compared by a 64-bit hash of the columns given.
    """
    _, first = np.unique(row_keys(columns, rows), return_index=True)
    return rows[np.sort(first)]


def row_keys(columns: Sequence[Array], rows: I64) -> U64:
    """Return a 64-bit hash of the columns given, for each of the rows."""
    key = np.zeros(len(rows), np.uint64)
    for column in columns:
        key = combine(key, mix(column[rows].astype(np.uint64)))
    return key
