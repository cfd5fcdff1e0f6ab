"""State taken apart for keeping, and put together again: JSON values and numpy arrays, nothing executable.

A stage's state is a flat dict of sections, each with a version of its own, so that one part can change
without the others being lost. `take_apart` separates a section's arrays from the JSON around them, so
that a keeper can look at the arrays' own memory; `encode_state` makes one run of bytes of both.

Layout of the bytes: ``SGS2``, length of the JSON (u32, little endian), the JSON with every array replaced
by ``{"$array": [dtype, shape]}``, then the arrays' bytes in the order in which they are met.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import orjson

MAGIC = b"SGS2"
_LENGTH = struct.Struct("<I")
_KINDS = "biufSU"
_ARRAY = "$array"

Array = npt.NDArray[Any]


class SnapshotError(ValueError):
    """Bytes that are no snapshot."""


class SectionError(Exception):
    """A section whose content its part did not take; ``section`` names it. The stage is then half restored."""

    def __init__(self, section: str, cause: Exception) -> None:
        super().__init__(f"{section}: {type(cause).__name__}: {cause}")
        self.section = section


@dataclass(frozen=True)
class Section:
    """One part of a stage's state.

    ``state`` is a nested dict or list of JSON values and arrays of numbers, truth values or text. Arrays may
    be views of live memory: they hold until the stage is fed again.
    """

    version: int
    state: Any


class Part(Protocol):
    """What has a section of its own; ``state_version`` changes with the meaning of what it keeps."""

    state_version: ClassVar[int]

    def snapshot(self) -> Any:
        """Return the state."""

    def restore(self, state: Any) -> Sequence[str] | None:
        """Take in what ``snapshot`` gave; may return names of what in it started cold."""


def sections_of(parts: Mapping[str, Part]) -> dict[str, Section]:
    """Return a section for each part that has state."""
    taken = {name: Section(part.state_version, part.snapshot()) for name, part in parts.items()}
    return {name: section for name, section in taken.items() if section.state != {}}


def usable(sections: Mapping[str, Section], needed: Mapping[str, int]) -> Mapping[str, Section]:
    """Return the sections, or none at all where one without which the others mean nothing is not there.

    Args:
        sections: of a snapshot.
        needed: version by name of the sections that all others refer to.
    """
    there = all(name in sections and sections[name].version == version for name, version in needed.items())
    return sections if there else {}


def restore_parts(parts: Mapping[str, Part], sections: Mapping[str, Section]) -> list[str]:
    """Give each part, fed nothing yet, its section; return the names of those that start cold.

    Cold is a part whose section is missing or of another version (unless it has no state to keep), and
    what a part says of its inside, as ``section/name``.

    Raises:
        SectionError: a part did not take its section.
    """
    cold: list[str] = []
    for name, part in parts.items():
        section = sections.get(name)
        if section is None or section.version != part.state_version:
            if section is not None or part.snapshot() != {}:
                cold.append(name)
            continue
        try:
            inside = part.restore(section.state)
        except Exception as error:
            raise SectionError(name, error) from error
        cold += [f"{name}/{word}" for word in inside or ()]
    return cold


def take_apart(state: Any) -> tuple[bytes, dict[str, Array]]:
    """Return the JSON of a state, and its arrays by their path in it (RFC 6901), without copying them.

    Raises:
        TypeError: a value of another kind; object arrays are refused.
    """
    arrays: dict[str, Array] = {}

    def plain(value: Any, path: str) -> Any:
        if isinstance(value, np.ndarray):
            if value.dtype.kind not in _KINDS:
                problem = f"an array of {value.dtype} cannot be kept"
                raise TypeError(problem)
            arrays[path] = value
            return {_ARRAY: [value.dtype.str, list(value.shape)]}
        if isinstance(value, dict):
            if _ARRAY in value:
                problem = f"a state must not use the key {_ARRAY}"
                raise TypeError(problem)
            return {k: plain(value[k], _below(path, k)) for k in sorted(value)}
        if isinstance(value, list | tuple):
            return [plain(v, f"{path}/{i}") for i, v in enumerate(value)]
        if isinstance(value, np.generic):
            return value.item()
        return value

    return orjson.dumps(plain(state, "")), arrays


def put_together(head: bytes, raw: Callable[[str, int], bytearray]) -> Any:
    """Return the state of a JSON and of the bytes of its arrays.

    Args:
        head: the JSON.
        raw: gives an array's bytes by path and size; asked in the order of the JSON; the array keeps them.

    Raises:
        SnapshotError: anything is not as it must be.
    """

    def full(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            if set(value) == {_ARRAY}:
                dtype, shape = value[_ARRAY]
                return _array(raw, path, dtype, shape)
            return {k: full(v, _below(path, k)) for k, v in value.items()}
        if isinstance(value, list):
            return [full(v, f"{path}/{i}") for i, v in enumerate(value)]
        return value

    try:
        return full(orjson.loads(head), "")
    except (orjson.JSONDecodeError, TypeError, ValueError, KeyError) as error:
        problem = f"snapshot is damaged: {error}"
        raise SnapshotError(problem) from None


def array_bytes(values: Array) -> memoryview:
    """Return an array's bytes in C order; a view of its memory where that is their order already."""
    if not values.nbytes:
        return memoryview(b"")
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def array_size(dtype: str, shape: Sequence[int]) -> int:
    """Return the bytes of an array.

    Raises:
        ValueError: such an array is never kept.
    """
    kind = np.dtype(dtype)
    if kind.kind not in _KINDS or any(not isinstance(n, int) or n < 0 for n in shape):
        problem = f"no array that can be kept: {dtype} {shape}"
        raise ValueError(problem)
    count = 1
    for n in shape:
        count *= n
    return count * kind.itemsize


def encode_state(state: Any) -> bytes:
    """Return the bytes of a state; equal states are equal bytes.

    Raises:
        TypeError: a value of another kind; object arrays are refused.
    """
    head, arrays = take_apart(state)
    return b"".join([MAGIC, _LENGTH.pack(len(head)), head, *map(array_bytes, arrays.values())])


def decode_state(data: bytes) -> Any:
    """Read what ``encode_state`` wrote.

    Raises:
        SnapshotError: anything is not as it must be.
    """
    if data[:4] != MAGIC or len(data) < 8:
        problem = "not a snapshot"
        raise SnapshotError(problem)
    begin = at = 8 + _LENGTH.unpack_from(data, 4)[0]

    def raw(_path: str, size: int) -> bytearray:
        nonlocal at
        at += size
        return bytearray(data[at - size : at])

    return put_together(data[8:begin], raw)


def _below(path: str, key: str) -> str:
    return f"{path}/{key.replace('~', '~0').replace('/', '~1')}"


def _array(raw: Callable[[str, int], bytearray], path: str, dtype: str, shape: Sequence[int]) -> Array:
    size = array_size(dtype, shape)
    data = raw(path, size)
    if len(data) != size:
        problem = f"array {path} has {len(data)} bytes instead of {size}"
        raise ValueError(problem)
    return np.frombuffer(data, np.dtype(dtype)).reshape(shape) if size else np.zeros(shape, np.dtype(dtype))
