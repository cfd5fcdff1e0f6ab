"""Columns of text, as tables in files have them, to numbers, times and addresses; damage is found per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from exporter.chunks import I64
from exporter.network_layer import Bool
from exporter.record_rows import words
from schemas.addresses import UNSPECIFIED, pack
from schemas.events import ADDRESS, MAX_TEXT, WORD

__all__ = ["Bool", "TextColumns", "iso_times", "mac_number"]

_NUMBER = r"^[+-]?[0-9]{1,15}(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,2})?$"
_MOST = 1 << 48  # as the header's counts: sums over many messages fit 64 bits
# 2286-11-20: later times are nonsense, and ns in int64 end in 2262.
_LATEST = 9_000_000_000


class TextColumns:
    """Columns of strings by name, nulls where a value is unset, for n rows.

    Attributes:
        numbers: int64 (n,), the line that each row stands in.
        bad: bool (n,), rows with a value that cannot be what it must be.
        reason: which column the first such row has it in.
    """

    def __init__(self, numbers: Sequence[int], columns: Mapping[str, Sequence[str | None]]) -> None:
        self.numbers = np.array(numbers, np.int64)
        self._columns = columns
        self.bad: Bool = np.zeros(len(numbers), np.bool_)
        self.reason = ""

    def __len__(self) -> int:
        return len(self.numbers)

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def text(self, name: str) -> pa.Array:
        """Return a column as strings with nulls; all null where there is none."""
        return pa.array(self._columns.get(name, [None] * len(self)), pa.string())

    def strings(self, name: str) -> list[str]:
        """Return a column as Python strings, empty where unset."""
        return [value or "" for value in self._columns.get(name, [None] * len(self))]

    def mark(self, name: str, rows: Bool) -> None:
        """Mark rows as damaged by a column."""
        if rows.any() and not self.reason:
            self.reason = f"{name} is not what it must be"
        self.bad |= rows

    def numbers_of(self, name: str) -> npt.NDArray[np.float64]:
        """Return a column of numbers, NaN where unset."""
        text = self.text(name)
        good = pc.match_substring_regex(text, _NUMBER)
        self.mark(name, pc.invert(pc.fill_null(good, True)).to_numpy(zero_copy_only=False))
        kept = pc.if_else(good, text, None).cast(pa.float64())
        out: npt.NDArray[np.float64] = kept.to_numpy(zero_copy_only=False)
        return out

    def count(self, name: str, most: int = _MOST) -> I64:
        """Return a column of whole numbers from 0 to ``most``, 0 where unset."""
        values = np.nan_to_num(self.numbers_of(name))
        self.mark(name, (values < 0) | (values > most) | (values != np.floor(values)))
        return np.where(self.bad, 0, values).astype(np.int64)

    def nanoseconds(self, name: str, unit: int = 1_000_000_000) -> I64:
        """Return a column of lengths of time in ns, 0 where unset; ``unit`` is how many ns a value of 1 has."""
        values = np.nan_to_num(self.numbers_of(name))
        self.mark(name, (values < 0) | (values * unit > 1e18))
        micro = np.rint(np.where(self.bad, 0, values) * (unit / 1000))
        return micro.astype(np.int64) * 1000

    def times(self, name: str) -> I64:
        """Return a column of times, ns since epoch, that must be set: seconds since epoch, or ISO 8601 in UTC."""
        text = self.text(name)
        seconds = pc.fill_null(pc.match_substring_regex(text, _NUMBER), False)
        values = np.nan_to_num(pc.if_else(seconds, text, None).cast(pa.float64()).to_numpy(zero_copy_only=False))
        out = np.rint(np.where((values > 0) & (values < _LATEST), values, 0) * 1e6).astype(np.int64) * 1000
        if not pc.all(seconds).as_py():
            out = np.where(seconds.to_numpy(zero_copy_only=False), out, iso_times(text))
        self.mark(name, out <= 0)
        return out

    def addresses(self, name: str) -> pa.DictionaryArray:
        """Return a column of addresses that must be set."""
        coded = self.text(name).dictionary_encode()
        packed = [_packed(text) for text in coded.dictionary.to_pylist()]
        good = np.array([p is not None for p in packed] + [False])
        indices = pc.fill_null(coded.indices, len(packed)).to_numpy(zero_copy_only=False).astype(np.int64)
        self.mark(name, ~good[indices])
        known = [*(value or UNSPECIFIED for value in packed), UNSPECIFIED]
        return words([known[i] for i in indices.tolist()], ADDRESS)

    def words(self, name: str) -> pa.DictionaryArray:
        """Return a column of words, empty where unset, cut at the longest that rows may hold."""
        return words([value[:MAX_TEXT] for value in self.strings(name)], WORD)

    def macs(self, name: str) -> I64:
        """Return a column of hardware addresses as numbers, 0 where unset or no such address."""
        return np.array([mac_number(value) for value in self.strings(name)], np.int64)


def iso_times(text: pa.Array) -> I64:
    """Return ns since epoch of ISO 8601 times; 0 where one cannot be read. Without a zone they are taken as UTC."""
    plain = pc.replace_substring_regex(text, r"(Z|\+00:?00)$", "")
    good = pc.match_substring_regex(plain, r"^[12]\d{3}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?$")
    kept = pc.if_else(good, plain, None)
    try:
        times = kept.cast(pa.timestamp("ns"))
    except pa.ArrowInvalid:
        # One that looks right and is not (a 30th of February): find it by asking one by one.
        times = pa.array([_one_time(value) for value in kept.to_pylist()], pa.timestamp("ns"))
    out: I64 = pc.fill_null(times.cast(pa.int64()), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return out


def _one_time(value: str | None) -> int | None:
    try:
        return int(pa.scalar(value, pa.string()).cast(pa.timestamp("ns")).value) if value else None
    except pa.ArrowInvalid:
        return None


def _packed(text: str) -> bytes | None:
    try:
        return pack(text)
    except ValueError:
        return None


def mac_number(text: str) -> int:
    """Return a hardware address in text as a number; 0 where it is none."""
    digits = text.replace(":", "").replace("-", "")
    if len(digits) != 12:
        return 0
    try:
        return int(digits, 16)
    except ValueError:
        return 0
