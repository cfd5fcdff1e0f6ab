"""Equal rows of columns made one, and sums over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.index import I64
from detectors.kernels.grouping import number_by_place, number_small, number_words, sum_members
from detectors.mixing import U64

Array = npt.NDArray[Any]
I32 = npt.NDArray[np.int32]

# Values below so many times their number are told apart by a table of all of them, which is faster than hashing.
_DENSE = 8


class Grouping:
    """Some entries grouped by columns; groups are in order of first appearance.

    ``members`` are positions of the entries, ``number`` the group of each, ``first`` the first member of each group.
    """

    def __init__(self, members: I64, keys: Sequence[Array]) -> None:
        """Group.

        Args:
            members: positions into the key columns.
            keys: integer columns that are not negative.
        """
        self.members = members
        one, two = _packed([k[members] for k in keys])
        self.number: I32
        end = int(one.max(initial=0)) + 1
        if two is not None:
            self.number, first = number_words(one, two)
        elif end <= _DENSE * len(members):
            self.number, first = number_small(one, end)
        else:
            self.number, first = number_words(one, np.zeros_like(one))
        self.first: I64 = members[first]

    @classmethod
    def each(cls, members: I64) -> Grouping:
        """Return a grouping in which every member is a group of its own."""
        out = object.__new__(cls)
        out.members = out.first = members
        out.number = np.arange(len(members), dtype=np.int32)
        return out

    @classmethod
    def of_ticks(cls, members: I64, place: Array, ids: Array, end: int) -> Grouping:
        """Return a grouping by tick and a number in it, such as that of an address.

        Args:
            members: positions into the next two; those of one tick stand together.
            place: number of each entry's tick within the round.
            ids: numbers below ``end``.
            end: how many there are.
        """
        out = object.__new__(cls)
        out.members = members
        out.number, first = number_by_place(members, place, ids, end)
        out.first = members[first]
        return out

    @classmethod
    def equal(cls, keys: U64) -> Grouping:
        """Return a grouping of equal keys; all are members."""
        out = object.__new__(cls)
        out.members = np.arange(len(keys))
        out.number, out.first = number_words(keys.view(np.int64), np.zeros(len(keys), np.int64))
        return out

    def __len__(self) -> int:
        return len(self.first)

    def keep(self, chosen: npt.NDArray[np.bool_]) -> Grouping:
        """Return only the chosen groups, in the same order."""
        inside = chosen[self.number]
        out = object.__new__(Grouping)
        out.members = self.members[inside]
        out.number = (np.cumsum(chosen) - 1).astype(np.int32)[self.number[inside]]
        out.first = self.first[chosen]
        return out

    def total(self, values: I64) -> I64:
        """Sum an int64 array with one value per entry over each group."""
        if len(self) == len(self.members):
            return values[self.members]
        totals: I64 = sum_members(self.number, self.members, values, len(self))
        return totals

    def sizes(self) -> I64:
        """Return the members of each group."""
        return np.bincount(self.number, minlength=len(self))


def _packed(keys: Sequence[Array]) -> tuple[I64, I64 | None]:
    """Return the columns side by side in one word, or two where they need them.

    Raises:
        ValueError: their values need more than 126 bits.
    """
    words: list[I64] = []
    room = 0
    for key in keys:
        width = int(key.max(initial=0)).bit_length()
        if not words or width > room:
            words.append(key.astype(np.int64))
            room = 63 - width
        else:
            words[-1] = words[-1] << width | key
            room -= width
    if len(words) > 2:
        problem = "the columns to group by do not fit two words"
        raise ValueError(problem)
    return words[0], words[1] if len(words) > 1 else None
