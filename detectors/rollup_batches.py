"""Rollup sections as record batches, dealt out to rollup partitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.index import I64, positions
from schemas.rollups import SCHEMAS, SECTIONS

Array = npt.NDArray[Any]


def deal(parts: list[dict[str, pa.RecordBatch]], section: str, columns: Mapping[str, Array], target: I64) -> None:
    """Give each rollup partition its rows of a section, in their order."""
    for partition, batches in enumerate(parts):
        rows = positions(target == partition)
        if len(rows):
            batches[section] = to_batch(section, {c.name: columns[c.name][rows] for c in SECTIONS[section]})


def to_batch(section: str, columns: Mapping[str, Array]) -> pa.RecordBatch:
    """Return a rollup section's record batch from numpy columns."""
    arrays = []
    for schema_field in SCHEMAS[section]:
        values = columns[schema_field.name]
        if pa.types.is_fixed_size_binary(schema_field.type):
            buffer = pa.py_buffer(np.ascontiguousarray(values).tobytes())
            arrays.append(pa.Array.from_buffers(schema_field.type, len(values), [None, buffer]))
        else:
            arrays.append(pa.array(values, schema_field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMAS[section])
