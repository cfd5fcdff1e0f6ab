"""Columns to row batches of any kind; what is not given holds its absent value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exporter.chunks import I64
from schemas.addresses import UNSPECIFIED
from schemas.events import ADDRESS, KINDS, Column, arrow_schema

Values: TypeAlias = "npt.NDArray[Any] | pa.Array"


@dataclass(frozen=True)
class Rows:
    """Rows of one kind and the time that each belongs to.

    Attributes:
        kind: kind of the rows.
        batch: in the schema of the kind.
        when: int64 (n,), ns since epoch; decides the second that a row is sent in.
    """

    kind: str
    batch: pa.RecordBatch
    when: I64


def to_rows(kind: str, when: I64, columns: Mapping[str, Values]) -> Rows:
    """Return rows from columns by name.

    Args:
        kind: one of ``schemas.events.KINDS``.
        when: int64 (n,), ns since epoch.
        columns: numpy arrays of numbers, or dictionary arrays of words and addresses, (n,).
    """
    assert set(columns) <= {c.name for c in KINDS[kind]}, "a column that the kind does not have"  # noqa: S101
    arrays = [
        _typed(columns[c.name], c.dtype) if c.name in columns else _absent(kind, c, len(when)) for c in KINDS[kind]
    ]
    return Rows(kind, pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(kind)), when)


def _typed(values: Values, dtype: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    return pa.array(values).cast(dtype)


def _absent(kind: str, column: Column, count: int) -> pa.Array:
    return absent_column(kind, column.name)[1].take(pa.array(np.zeros(count, np.int32)))


@lru_cache(maxsize=256)
def absent_column(kind: str, name: str) -> tuple[Any, pa.Array]:
    """Return the value that stands for "absent" in a column, alone and as a column of one row."""
    dtype = next(c.dtype for c in KINDS[kind] if c.name == name)
    absent = next(c.absent for c in KINDS[kind] if c.name == name)
    value: Any = -1 if absent == "-1" else 0
    if pa.types.is_boolean(dtype):
        value = False
    elif pa.types.is_dictionary(dtype):
        value = UNSPECIFIED if dtype == ADDRESS else ""
        return value, words([value], dtype)
    return value, pa.array([value], type=dtype)


def words(values: Iterable[Any], dtype: pa.DataType) -> pa.DictionaryArray:
    """Return a dictionary column of words or addresses from Python values."""
    numbers: dict[Any, int] = {}
    indices = [numbers.setdefault(value, len(numbers)) for value in values]
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(list(numbers), dtype.value_type))


class Slices:
    """Parts of a batch as batches of their own: nothing of the rest is in them, neither words nor bytes.

    Arrow pads a slice with what stands behind it, so what it wrote would depend on the neighbours.
    """

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._schema = batch.schema
        self._columns = [_opened(column) for column in batch.columns]

    def part(self, start: int, stop: int) -> pa.RecordBatch:
        """Return rows ``start`` to ``stop``."""
        return pa.RecordBatch.from_arrays([column(start, stop) for column in self._columns], schema=self._schema)


def _opened(column: pa.Array) -> Callable[[int, int], pa.Array]:
    """Return what cuts parts out of a column."""
    if pa.types.is_boolean(column.type):
        bits = column.to_numpy(zero_copy_only=False)
        return lambda start, stop: pa.array(bits[start:stop])
    if not pa.types.is_dictionary(column.type):
        return partial(_plain, column.to_numpy(), column.type)
    return partial(_coded, column.indices.to_numpy(), column.dictionary)


def _plain(values: npt.NDArray[Any], dtype: pa.DataType, start: int, stop: int) -> pa.Array:
    return pa.Array.from_buffers(dtype, stop - start, [None, pa.py_buffer(values[start:stop])])


def _coded(indices: npt.NDArray[np.int32], dictionary: pa.Array, start: int, stop: int) -> pa.Array:
    numbers = np.zeros(stop - start, np.int32)
    if len(dictionary) > 1:
        used, inverse = np.unique(indices[start:stop], return_inverse=True)
        numbers = inverse.astype(np.int32)
        dictionary = dictionary.take(pa.array(used))
    coded = pa.Array.from_buffers(pa.int32(), stop - start, [None, pa.py_buffer(numbers)])
    return pa.DictionaryArray.from_arrays(coded, dictionary)
