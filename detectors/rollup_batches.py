"""Rollup sections as record batches: dealt out to rollup partitions, and cut into parts that a broker takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.index import I64, positions
from schemas.rollups import POINTING, SCHEMAS, SECTIONS

Array = npt.NDArray[Any]
Columns = dict[str, Array]
Sections = dict[str, Columns]

# Of one part, before what belongs to its last entity. The topic takes 4 MiB, a decoder 65,536 rows of a section. Here
# are at most 32,768 of the smallest, of 16 bytes, and one entity's sources (`engine.sources_per_victim`).
PART_BYTES = 512 << 10


def deal(parts: list[Sections], section: str, columns: Mapping[str, Array], target: I64) -> None:
    """Give each rollup partition its rows of a section, in their order."""
    for partition, sections in enumerate(parts):
        rows = positions(target == partition)
        if len(rows):
            sections[section] = {c.name: columns[c.name][rows] for c in SECTIONS[section]}


def cut(sections: Sections, most: int = PART_BYTES) -> Iterator[Sections]:
    """Yield sections in parts of some bytes; an entity and all rows that point to it stay together.

    Args:
        sections: of one rollup partition; row numbers of pointing sections count within these.
        most: bytes after which a part ends. The last entity of a part may go beyond.
    """
    owners = [name for name in sections if name not in POINTING]
    weights = [_weights(name, sections) for name in owners]
    if sum(int(own.sum()) for own in weights) <= most:
        yield sections
        return
    every = np.concatenate(weights)
    # Ascending over all rows of one section after the other.
    number = (np.cumsum(every) - every) // most
    of_rows = dict(zip(owners, np.split(number, np.cumsum([len(w) for w in weights])[:-1]), strict=True))
    for part in np.unique(number).tolist():
        spans = {name: np.searchsorted(rows, [part, part + 1]).tolist() for name, rows in of_rows.items()}
        yield dict(_of_spans(sections, spans))


def _of_spans(sections: Sections, spans: Mapping[str, tuple[int, int]]) -> Iterator[tuple[str, Columns]]:
    for name, columns in sections.items():
        owner = POINTING.get(name)
        first, end = spans[owner or name]
        if owner is None:
            taken = {key: values[first:end] for key, values in columns.items()}
        else:
            rows = positions((columns[owner] >= first) & (columns[owner] < end))
            taken = {key: values[rows] for key, values in columns.items()}
            taken[owner] = taken[owner] - first
        if len(next(iter(taken.values()))):
            yield name, taken


def _weights(owner: str, sections: Sections) -> I64:
    """Return the bytes of each row of a section and of all rows that point to it; at least those."""
    weights = _bytes(sections[owner])
    for name, target in POINTING.items():
        if target == owner and name in sections:
            rows = sections[name][target]
            weights += np.bincount(rows, _bytes(sections[name]), len(weights)).astype(np.int64)
    return weights


def _bytes(columns: Columns) -> I64:
    total = np.zeros(len(next(iter(columns.values()))), np.int64)
    for values in columns.values():
        if values.dtype.kind == "U":
            total += 4 + 4 * np.char.str_len(values)  # an offset, and no character has more
        else:
            total += values[:1].nbytes
    return total


def to_batches(sections: Sections) -> dict[str, pa.RecordBatch]:
    """Return the record batch of each section."""
    return {name: _to_batch(name, columns) for name, columns in sections.items()}


def _to_batch(section: str, columns: Mapping[str, Array]) -> pa.RecordBatch:
    arrays = []
    for schema_field in SCHEMAS[section]:
        values = columns[schema_field.name]
        if pa.types.is_fixed_size_binary(schema_field.type):
            buffer = pa.py_buffer(np.ascontiguousarray(values).tobytes())
            arrays.append(pa.Array.from_buffers(schema_field.type, len(values), [None, buffer]))
        else:
            arrays.append(pa.array(values, schema_field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMAS[section])
