"""Columns of rows to Arrow batches in the schemas of ``schemas.events``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.mixing import mix
from exporter.app_guess import APPS
from exporter.chunks import I64
from exporter.flow_rows import RowBlock
from exporter.gather import U64
from exporter.link_block import LinkBlock
from exporter.tls_exchange import Row
from schemas.addresses import UNSPECIFIED
from schemas.events import ADDRESS, FLOW, KINDS, LINK, WORD, arrow_schema

# Asked once: pyarrow looks for pandas each time it is asked.
_NUMPY = {
    column.dtype: np.dtype(column.dtype.to_pandas_dtype())
    for column in (*FLOW, *LINK) if pa.types.is_primitive(column.dtype)
}  # fmt: skip


def flow_batch(rows: RowBlock, interfaces: Sequence[str]) -> pa.RecordBatch:
    """Return a flow batch; ``interfaces`` names the numbers in its interface column."""
    count = len(rows["marks"])
    given = {
        "src": addresses(rows["src_high"], rows["src_low"]), "dst": addresses(rows["dst_high"], rows["dst_low"]),
        "interface": _words(rows["interface"], interfaces), "app": _words(rows["app"], APPS),
    }  # fmt: skip
    given |= {name: addresses(rows[f"{name}_high"], rows[f"{name}_low"])
              for name in ("orig_dst", "nat_src") if f"{name}_high" in rows}  # fmt: skip
    arrays = []
    for column in FLOW:
        if column.name in given:
            arrays.append(given[column.name])
        elif column.name in rows:
            arrays.append(_plain(rows[column.name], column.dtype))
        else:
            arrays.append(_absent(column.dtype, count))
    return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema("flow"))


def link_batch(rows: LinkBlock, interfaces: Sequence[str]) -> pa.RecordBatch:
    """Return a link batch; ``interfaces`` names the numbers in its interface column."""
    count = len(rows["time"])
    given = {name: addresses(rows[f"{name}_high"], rows[f"{name}_low"]) for name in ("claimed", "target", "speaker")}
    given |= {"interface": _words(rows["interface"], interfaces), "text": _dictionary(rows["text"].tolist(), WORD)}
    arrays = []
    for column in LINK:
        if column.name in given:
            arrays.append(given[column.name])
        elif column.name in rows:
            arrays.append(_plain(rows[column.name], column.dtype))
        else:
            arrays.append(_absent(column.dtype, count))
    return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema("link"))


def row_batch(kind: str, rows: Sequence[Row]) -> pa.RecordBatch:
    """Return a batch of a kind; values in the order of the schema's columns, addresses as 16 bytes."""
    arrays = []
    for column, values in zip(KINDS[kind], zip(*rows, strict=True), strict=True):
        if pa.types.is_dictionary(column.dtype):
            arrays.append(_dictionary(values, column.dtype))
        else:
            arrays.append(pa.array(values, type=column.dtype))
    return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(kind))


def _dictionary(values: Iterable[Any], dtype: pa.DataType) -> pa.DictionaryArray:
    numbers: dict[Any, int] = {}
    indices = [numbers.setdefault(value, len(numbers)) for value in values]
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(list(numbers), dtype.value_type))


def addresses(high: U64, low: U64) -> pa.DictionaryArray:
    """Return addresses from their big-endian halves, each different one once in the dictionary."""
    keys = mix(low ^ mix(high))
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    if bool((high[first][inverse] != high).any() or (low[first][inverse] != low).any()):
        # Two addresses with one hash: keep every row's own.
        first = inverse = np.arange(len(low))
    values = np.stack([high[first], low[first]], axis=1).astype(">u8")
    kept = pa.Array.from_buffers(pa.binary(16), len(first), [None, pa.py_buffer(values.tobytes())])
    return pa.DictionaryArray.from_arrays(pa.array(inverse.astype(np.int32)), kept)


def _plain(values: npt.NDArray[Any], dtype: pa.DataType) -> pa.Array:
    """Return a column of numbers without a copy where the types agree already."""
    if pa.types.is_boolean(dtype):
        return pa.array(values)
    kept = np.ascontiguousarray(values, dtype=_NUMPY[dtype])
    return pa.Array.from_buffers(dtype, len(kept), [None, pa.py_buffer(kept)])


def _words(numbers: npt.NDArray[Any], words: Sequence[str]) -> pa.DictionaryArray:
    """Return words from their numbers; only those that occur enter the dictionary."""
    if words[0] == "" and not numbers.any():
        return _absent(WORD, len(numbers))
    used, indices = np.unique(numbers, return_inverse=True)
    kept = pa.array([words[number] for number in used.tolist()], pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(indices.astype(np.int32)), kept)


def _absent(dtype: pa.DataType, count: int) -> pa.Array:
    """Return a column of "absent"."""
    return _absences(dtype, max(64, 1 << (count - 1).bit_length())).slice(0, count)


@lru_cache(maxsize=256)
def _absences(dtype: pa.DataType, count: int) -> pa.Array:
    # By powers of two: a live exporter meets every count there is.
    if pa.types.is_dictionary(dtype):
        word = UNSPECIFIED if dtype == ADDRESS else ""
        return pa.DictionaryArray.from_arrays(pa.array(_zeros(count), pa.int32()), pa.array([word], dtype.value_type))
    if pa.types.is_boolean(dtype):
        return pa.array(np.zeros(count, np.bool_))
    return pa.array(_zeros(count), type=dtype)


def _zeros(count: int) -> I64:
    return np.zeros(count, np.int64)
