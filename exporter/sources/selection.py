"""Some of the records of a block."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from exporter.flow_records import FlowRecords
from exporter.record_rows import Values
from exporter.sources.text_columns import Bool


def chosen(columns: Mapping[str, Values], rows: Bool) -> dict[str, Values]:
    """Return the chosen rows of columns."""
    return {n: v.filter(pa.array(rows)) if isinstance(v, pa.Array) else v[rows] for n, v in columns.items()}


def select(records: FlowRecords, rows: Bool) -> FlowRecords:
    """Return the chosen records."""
    if bool(np.all(rows)):
        return records
    return FlowRecords(records.start[rows], records.end[rows], records.marks[rows], chosen(records.columns, rows))
