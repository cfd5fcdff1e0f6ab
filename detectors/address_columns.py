"""Addresses of Arrow columns as numpy arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def address_bytes(dictionary: pa.Array) -> npt.NDArray[np.uint8]:
    """Return an Arrow array of 16-byte values as uint8, shape (n, 16), without a copy."""
    data = dictionary.buffers()[1]
    count = len(dictionary)
    if data is None or not count:
        return np.zeros((0, 16), np.uint8)
    flat = np.frombuffer(data, np.uint8, count=16 * count, offset=16 * dictionary.offset)
    return flat.reshape(count, 16)
