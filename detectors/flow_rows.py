"""The flow rows of one round of ticks, ungrouped: for detectors that follow single connections."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.columns import address_bytes
from detectors.hashing import U64
from detectors.index import I64
from detectors.row_frame import Array, RowFrame
from schemas.events import FlowMark

Ends = tuple[U64, U64, U64, U64]


class FlowRows(RowFrame):
    """One entry per flow row (``schemas.events.FLOW``).

    A frame holds every row of the round, so a detector picks the few that it follows by the numeric columns first
    and asks for addresses and words of those alone.
    """

    @cached_property
    def marks(self) -> Array:
        """``FlowMark`` bits."""
        return self.numbers("marks")

    @cached_property
    def proto(self) -> Array:
        """IP protocol."""
        return self.numbers("proto")

    @cached_property
    def dst_port(self) -> Array:
        """Port of the responder."""
        return self.numbers("dst_port")

    @cached_property
    def own(self) -> npt.NDArray[np.bool_]:
        """Rows that no other node reports as well."""
        return ~self.numbers("copy")

    def marked(self, mark: FlowMark) -> npt.NDArray[np.bool_]:
        """Tell which rows bear a mark."""
        bears: npt.NDArray[np.bool_] = (self.marks & np.uint8(mark)) != 0
        return bears

    def ends(self, rows: I64) -> Ends:
        """Return source and destination of given rows, ascending, each as its upper and lower 64 bits, u64."""
        halves = [self._halves(name, rows) for name in ("src", "dst")]
        return halves[0][:, 0], halves[0][:, 1], halves[1][:, 0], halves[1][:, 1]

    def _halves(self, name: str, rows: I64) -> U64:
        parts = []
        edges = np.searchsorted(rows, np.cumsum([0, *self._counts]))
        start = 0
        for item, first, last in zip(self.batches, edges[:-1], edges[1:], strict=True):
            column = item.batch.column(name)
            if last > first:
                chosen = column.indices.to_numpy()[rows[first:last] - start]
                parts.append(address_bytes(column.dictionary)[chosen])
            start += item.batch.num_rows
        packed = np.concatenate(parts) if parts else np.zeros((0, 16), np.uint8)
        halves: U64 = np.ascontiguousarray(packed).view(">u8").astype(np.uint64)
        return halves

    def towards(self, halves: U64) -> npt.NDArray[np.bool_]:
        """Tell which rows have one of a few responders.

        Args:
            halves: upper and lower 64 bits of their addresses, u64, shape (k, 2).
        """
        parts = []
        for item in self.batches:
            column = item.batch.column("dst")
            known = np.ascontiguousarray(address_bytes(column.dictionary)).view(">u8").astype(np.uint64)
            among = (known[:, None, :] == halves[None]).all(axis=2).any(axis=1)
            parts.append(among[column.indices.to_numpy()] if among.any() else np.zeros(item.batch.num_rows, np.bool_))
        return np.concatenate(parts)

    def translated(self) -> npt.NDArray[np.bool_]:
        """Tell which rows know their destination before address translation."""
        parts = []
        for item in self.batches:
            column = item.batch.column("orig_dst")
            told: npt.NDArray[np.bool_] = (address_bytes(column.dictionary) != 0).any(axis=1)
            parts.append(told[column.indices.to_numpy()] if told.any() else np.zeros(item.batch.num_rows, np.bool_))
        return np.concatenate(parts)

    def before_translation(self, rows: I64) -> tuple[U64, U64]:
        """Return destinations of given rows, ascending, before address translation, as upper and lower 64 bits."""
        halves = self._halves("orig_dst", rows)
        return halves[:, 0], halves[:, 1]

    def words_as(self, name: str, rows: I64, numbers: Mapping[str, int], other: int) -> I64:
        """Return a column of words of given rows, ascending, as the numbers given to them; ``other`` for the rest."""
        out = np.full(len(rows), other, np.int64)
        edges = np.searchsorted(rows, np.cumsum([0, *self._counts]))
        start = 0
        for item, first, last in zip(self.batches, edges[:-1], edges[1:], strict=True):
            if last > first:
                column = item.batch.column(name)
                told = np.array([numbers.get(word, other) for word in column.dictionary.to_pylist()], np.int64)
                out[first:last] = told[column.indices.to_numpy()[rows[first:last] - start]]
            start += item.batch.num_rows
        return out

    def words_of(self, name: str, rows: I64) -> tuple[I64, list[str]]:
        """Return a column of words of given rows as numbers into a list of distinct ones."""
        whole = pa.chunked_array([b.batch.column(name) for b in self.batches]).take(pa.array(rows))
        joined = whole.unify_dictionaries().combine_chunks()
        single = joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined
        return single.indices.to_numpy().astype(np.int64), single.dictionary.to_pylist()
