"""Rows of one kind of one round of ticks as columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.columns import address_bytes
from detectors.hashing import U64, combine, mix
from detectors.index import I64, positions
from detectors.names import hash_strings

Array = npt.NDArray[Any]
Words = tuple[U64, U64]  # upper and lower half of addresses

_NOBODY = np.uint64(0xFFFF << 32)  # 0.0.0.0, mapped
_KEPT_TEXT = 120  # characters of a text that state and findings keep


class RowBatch(NamedTuple):
    """Rows of one node's tick, as they came."""

    node: int
    tick: int
    batch: pa.RecordBatch


class TickRows(NamedTuple):
    """Where the rows of one node's tick stand in a frame."""

    node: int
    tick: int
    rows: I64


class RowFrame:
    """One entry per row, in log order; rows of one node's tick stand together."""

    def __init__(self, batches: Sequence[RowBatch]) -> None:
        self.batches = [b for b in batches if b.batch.num_rows]
        self._counts = [b.batch.num_rows for b in self.batches]

    def __len__(self) -> int:
        return sum(self._counts)

    def numbers(self, name: str) -> Array:
        """Return a column of plain values."""
        parts = [b.batch.column(name).to_numpy(zero_copy_only=False) for b in self.batches]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def addresses(self, name: str) -> Words:
        """Return an address column as its upper and lower 64 bits, each u64, shape (n,); 0.0.0.0 is 0, as :: is."""
        parts = []
        for item in self.batches:
            column = item.batch.column(name)
            halves = address_bytes(column.dictionary).reshape(-1).view(">u8").reshape(-1, 2).astype(np.uint64)
            halves[(halves[:, 0] == 0) & (halves[:, 1] == _NOBODY)] = 0
            parts.append(halves[column.indices.to_numpy()])
        both = np.concatenate(parts)
        return both[:, 0], both[:, 1]

    def texts(self, name: str) -> tuple[I64, list[str]]:
        """Return a column of words as numbers into a list of the distinct ones, each cut to 120 characters."""
        column = pa.chunked_array([b.batch.column(name) for b in self.batches]).unify_dictionaries().combine_chunks()
        words = [text.replace("\0", "")[:_KEPT_TEXT] for text in column.dictionary.to_pylist()]
        return column.indices.to_numpy().astype(np.int64), words

    def text_hashes(self, name: str) -> U64:
        """Return the hash of a column of words per row, u64."""
        column = pa.chunked_array([b.batch.column(name) for b in self.batches]).unify_dictionaries().combine_chunks()
        hashes: U64 = hash_strings(column.dictionary)[column.indices.to_numpy()]
        return hashes

    def ticks(self, chosen: npt.NDArray[np.bool_]) -> Iterator[TickRows]:
        """Return the chosen rows of each node's tick that has any, ordered by node."""
        found: dict[tuple[int, int], list[I64]] = {}
        start = 0
        for item, count in zip(self.batches, self._counts, strict=True):
            rows = positions(chosen[start : start + count]) + start
            start += count
            if len(rows):
                found.setdefault((item.node, item.tick), []).append(rows)
        for node, tick in sorted(found):
            yield TickRows(node, tick, np.concatenate(found[node, tick]))


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
