"""Engine state to bytes and back: JSON values and numpy arrays, nothing executable.

Layout: ``SGS1``, length of the JSON (u32, little endian), the JSON with every array replaced by
``{"$array": [offset, dtype, shape]}``, then the arrays' bytes.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import orjson

MAGIC = b"SGS1"
_LENGTH = struct.Struct("<I")
_KINDS = "biufSU"


class SnapshotError(ValueError):
    """Bytes that are no snapshot."""


def encode_state(state: Any) -> bytes:
    """Return the bytes of nested dicts and lists of JSON values and arrays; equal states are equal bytes.

    Raises:
        TypeError: a value of another kind; object arrays are refused.
    """
    arrays: list[bytes] = []
    offset = 0

    def plain(value: Any) -> Any:
        nonlocal offset
        if isinstance(value, np.ndarray):
            if value.dtype.kind not in _KINDS:
                problem = f"an array of {value.dtype} cannot be kept"
                raise TypeError(problem)
            raw = np.ascontiguousarray(value).tobytes()
            place = {"$array": [offset, value.dtype.str, list(value.shape)]}
            arrays.append(raw)
            offset += len(raw)
            return place
        if isinstance(value, dict):
            return {k: plain(value[k]) for k in sorted(value)}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        if isinstance(value, np.generic):
            return value.item()
        return value

    head = orjson.dumps(plain(state), option=orjson.OPT_SORT_KEYS)
    return b"".join([MAGIC, _LENGTH.pack(len(head)), head, *arrays])


def decode_state(data: bytes) -> Any:
    """Read what ``encode_state`` wrote.

    Raises:
        SnapshotError: anything is not as it must be.
    """
    if data[:4] != MAGIC or len(data) < 8:
        problem = "not a snapshot"
        raise SnapshotError(problem)
    length = _LENGTH.unpack_from(data, 4)[0]
    base = 8 + length

    def full(value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {"$array"}:
                return _array(data, base, value["$array"])
            return {k: full(v) for k, v in value.items()}
        if isinstance(value, list):
            return [full(v) for v in value]
        return value

    try:
        return full(orjson.loads(data[8:base]))
    except (orjson.JSONDecodeError, TypeError, ValueError) as error:
        problem = f"snapshot is damaged: {error}"
        raise SnapshotError(problem) from None


def _array(data: bytes, base: int, place: list[Any]) -> np.ndarray[Any, Any]:
    offset, name, shape = place
    dtype = np.dtype(name)
    count = int(np.prod(shape, dtype=np.int64))
    if dtype.kind not in _KINDS or offset < 0 or base + offset + count * dtype.itemsize > len(data):
        problem = "an array lies outside the data"
        raise ValueError(problem)
    return np.frombuffer(data, dtype, count, base + offset).reshape(shape).copy()
