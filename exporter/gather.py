"""Reading structs at many offsets of one buffer at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.chunks import I64, U8

U64 = npt.NDArray[np.uint64]


def structs_at(buffer: U8, offsets: I64, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return one item of ``dtype`` per offset.

    The view has one (overlapping, unaligned) item per byte; taking items copies them whole, which is
    several times faster than one gather per field.

    Raises:
        IndexError: an item would end outside the buffer.
    """
    view: npt.NDArray[Any] = np.ndarray(
        shape=(max(0, buffer.size - dtype.itemsize + 1),), dtype=f"V{dtype.itemsize}", buffer=buffer, strides=(1,)
    )
    return view[offsets].view(dtype)


_BIG_U16 = np.dtype(">u2")
_BIG_U64 = np.dtype(">u8")


def u16_at(buffer: U8, offsets: I64) -> I64:
    """Return big-endian 16-bit numbers as int64."""
    return structs_at(buffer, offsets, _BIG_U16).astype(np.int64)


def u64_at(buffer: U8, offsets: I64) -> U64:
    """Return big-endian 64-bit numbers as uint64."""
    return structs_at(buffer, offsets, _BIG_U64).astype(np.uint64)
