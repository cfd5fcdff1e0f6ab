"""Measures of some rows only: the name of a measure, and the filter that says which rows count.

A feature is a value, so its filter travels in the measure's name; frames take it apart again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from detectors.row_filter import Mask, RowKind, parse_filter

_JOINT = " where "


class _Batch(Protocol):
    @property
    def batch(self) -> pa.RecordBatch: ...


def filtered_measure(measure: str, where: str) -> str:
    """Return the name of a measure that counts only rows which a filter lets through."""
    return f"{measure}{_JOINT}{where}"


def split_measure(name: str) -> tuple[str, str]:
    """Return the measure's own name and its filter, empty where there is none."""
    base, _, where = name.partition(_JOINT)
    return base, where


def passing(batches: Sequence[_Batch], where: str, kind: RowKind) -> Mask:
    """Tell per row of several batches, in their order, whether a filter lets it through."""
    row_filter = parse_filter(where, kind)
    masks = [row_filter.mask(item.batch) for item in batches]
    return np.concatenate(masks) if masks else np.zeros(0, np.bool_)
