"""The ceiling of everything behind the exporter: event messages to columns, and nothing else.

``event_codec.decode`` checks a message and gives Arrow batches; here every flow column is then read as a numpy
array, dictionary columns as their indices. No detector can be faster than that.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from benchmarks.generate import Shape, ordinary
from benchmarks.stopwatch import best
from schemas.event_codec import decode, encode

SIZES = (2000, 400, 50)  # flow rows a message: a busy node's second, an ordinary one's, a quiet one's
_NODES = 8


def read_columns(value: bytes) -> int:
    """Decode a message and touch every flow column; returns the number of flow rows."""
    batch = decode(value).batches["flow"]
    for column in batch.columns:
        values = column.indices if isinstance(column, pa.DictionaryArray) else column
        values.to_numpy(zero_copy_only=False)
    return int(batch.num_rows)


def run(flows: int = 400_000, seed: int = 1, repeats: int = 3) -> dict[str, Any]:
    """Measure each message size.

    Args:
        flows: flow rows per size, rounded to whole seconds of 8 nodes.
        seed: of the traffic.
        repeats: runs of which the best counts.

    Returns:
        By size: flow rows per second, µs per message, bytes per flow row (its share of DNS rows included).
    """
    return {str(rows): _size(Shape(_NODES, max(1, flows // (_NODES * rows)), rows), seed, repeats) for rows in SIZES}


def _size(shape: Shape, seed: int, repeats: int) -> dict[str, Any]:
    values = [encode(m) for m in ordinary(shape, seed)]
    taken = best(lambda: sum(read_columns(v) for v in values), repeats)
    return {
        "flows": shape.flows,
        "flows_per_second": taken.rates(shape.flows),
        "us_per_message": round(1e6 * taken.cpu / len(values), 1),
        "bytes_per_flow": round(sum(map(len, values)) / shape.flows, 1),
    }
