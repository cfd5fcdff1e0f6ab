"""The flow rows of one round of ticks, ungrouped: for detectors that follow single connections."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt

from detectors.frame import FlowFrame
from detectors.hashing import combine
from detectors.index import I64
from detectors.mixing import U64
from detectors.row_frame import Array, RowFrame
from schemas.events import FlowMark

Ends = tuple[U64, U64, U64, U64]


class FlowRows(RowFrame):
    """One entry per flow row (``schemas.events.FLOW``).

    A frame holds every row of the round, so a detector picks the few that it follows by the numeric columns first
    and asks for addresses and words of those alone.
    """

    def __init__(self, groups: FlowFrame) -> None:
        super().__init__(groups.columns)
        self._groups = groups

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
        """Tell which rows bear any of some marks."""
        bears: npt.NDArray[np.bool_] = (self.marks & np.uint8(mark)) != 0
        return bears

    def ends(self, rows: I64) -> Ends:
        """Return source and destination of given rows, each as its upper and lower 64 bits, u64."""
        source, destination = self._halves(self._groups.row_src[rows]), self._halves(self._groups.row_dst[rows])
        return source[:, 0], source[:, 1], destination[:, 0], destination[:, 1]

    def _halves(self, numbers: Array) -> U64:
        halves: U64 = self._groups.halves[numbers]
        return halves

    def is_outside(self, rows: I64) -> npt.NDArray[np.bool_]:
        """Tell which of given rows have a responder outside (`detectors.outside`)."""
        outside: npt.NDArray[np.bool_] = self._groups.outside[self._groups.row_dst[rows]]
        return outside

    def is_private(self, rows: I64) -> npt.NDArray[np.bool_]:
        """Tell of which given rows both ends lie in ranges for private use."""
        groups = self._groups
        private: npt.NDArray[np.bool_] = groups.private[groups.row_src[rows]] & groups.private[groups.row_dst[rows]]
        return private

    def pair_keys(self, rows: I64) -> U64:
        """Return a hash of source and destination of given rows, u64."""
        groups = self._groups
        return combine(groups.hashes[groups.row_src[rows]], groups.hashes[groups.row_dst[rows]])

    def responder_keys(self, rows: I64) -> U64:
        """Return a hash of the destination of given rows, u64."""
        hashes: U64 = self._groups.hashes[self._groups.row_dst[rows]]
        return hashes

    def initiator_keys(self, rows: I64) -> U64:
        """Return a hash of the source of given rows, u64."""
        hashes: U64 = self._groups.hashes[self._groups.row_src[rows]]
        return hashes

    def towards(self, halves: U64) -> npt.NDArray[np.bool_]:
        """Tell which rows have one of a few responders.

        Args:
            halves: upper and lower 64 bits of their addresses, u64, shape (k, 2).
        """
        groups = self._groups
        among = np.zeros(len(groups.halves), np.bool_)
        for high, low in halves:
            among |= (groups.halves[:, 1] == low) & (groups.halves[:, 0] == high)
        found: npt.NDArray[np.bool_] = among[groups.row_dst] if among.any() else np.zeros(len(self), np.bool_)
        return found

    def translated(self) -> npt.NDArray[np.bool_]:
        """Tell which rows know their destination before address translation."""
        halves, number = self._original
        told = (halves != 0).any(axis=1)
        found: npt.NDArray[np.bool_] = told[number] if told.any() else np.zeros(len(self), np.bool_)
        return found

    def before_translation(self, rows: I64) -> tuple[U64, U64]:
        """Return destinations of given rows before address translation, as upper and lower 64 bits."""
        halves, number = self._original
        return halves[number[rows], 0], halves[number[rows], 1]

    @cached_property
    def _original(self) -> tuple[U64, I64]:
        return self._columns.halves("orig_dst")

    def words_as(self, name: str, rows: I64, numbers: Mapping[str, int], other: int) -> I64:
        """Return a column of words of given rows as the numbers given to them; ``other`` for the rest."""
        if not len(rows):
            return np.zeros(0, np.int64)
        number, words = self.words_of(name, rows)
        return np.array([numbers.get(word, other) for word in words], np.int64)[number]

    def words_of(self, name: str, rows: I64) -> tuple[I64, list[str]]:
        """Return a column of words of given rows as numbers into a list of distinct ones."""
        words, number = self._columns.words_of(name, rows)
        return number, words.to_pylist()
