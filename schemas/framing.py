"""One header and several Arrow batches in one Kafka value.

Layout: four magic bytes, header length (u32, little endian), header JSON
``{"header": {...}, "batches": {name: [offset, length]}}`` padded to 8 bytes, then one Arrow IPC stream
per named batch. Everything read is checked before it is used: lengths, columns, nulls, dictionaries.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from schemas.arrow_messages import inspect

MAX_ROWS = 65_536
# 512 characters of four bytes each.
MAX_TEXT_BYTES = 2048
_MAX_HEADER = 64 << 10
_LENGTH = struct.Struct("<I")
_BEGIN, _MARKER = struct.Struct("<II"), 0xFFFFFFFF  # of an Arrow stream


class DecodeError(ValueError):
    """A value that cannot be read; the text names what is wrong and where."""


def pack_frame(magic: bytes, header: dict[str, Any], batches: Mapping[str, pa.RecordBatch]) -> bytes:
    """Return the bytes; batches without rows are left out, the rest keep the mapping's order."""
    bodies: list[bytes] = []
    table: dict[str, list[int]] = {}
    offset = 0
    for name, batch in batches.items():
        if batch.num_rows == 0:
            continue
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        body = sink.getvalue().to_pybytes()
        table[name] = [offset, len(body)]
        bodies.append(body)
        offset += len(body)
    head = orjson.dumps({"header": header, "batches": table})
    # Arrow buffers are read in place, so the bodies start on an 8-byte boundary.
    head += b" " * (-(len(head) + 8) % 8)
    return b"".join([magic, _LENGTH.pack(len(head)), head, *bodies])


def unpack_frame(value: bytes, schemas: Mapping[str, pa.Schema]) -> tuple[Any, dict[str, pa.RecordBatch]]:
    """Return the header's JSON value and the batches, read in place.

    Args:
        value: the whole value, its magic already recognised.
        schemas: the batches that may occur and the columns each must have.

    Raises:
        DecodeError: anything is not as it must be.
    """
    if len(value) < 8:
        problem = f"cut off after {len(value)} bytes"
        raise DecodeError(problem)
    length = _LENGTH.unpack_from(value, 4)[0]
    if length > _MAX_HEADER or 8 + length > len(value):
        problem = f"header length {length} does not fit a message of {len(value)} bytes"
        raise DecodeError(problem)
    head = json_object(value[8 : 8 + length], "header")
    table = head.get("batches")
    if not isinstance(table, dict):
        problem = "header.batches is missing"
        raise DecodeError(problem)
    body = pa.py_buffer(value).slice(8 + length)
    return head.get("header"), {name: _batch(name, span, body, schemas) for name, span in table.items()}


def json_object(raw: bytes, where: str) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        DecodeError: it is not JSON, or not an object.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        problem = f"{where} is not JSON: {error}"
        raise DecodeError(problem) from None
    if not isinstance(value, dict):
        problem = f"{where} must be an object"
        raise DecodeError(problem)
    return value


def _batch(name: str, span: Any, body: pa.Buffer, schemas: Mapping[str, pa.Schema]) -> pa.RecordBatch:
    if name not in schemas:
        problem = f"unknown batch {name[:40]!r}; known: {', '.join(schemas)}"
        raise DecodeError(problem)
    if not (isinstance(span, list) and len(span) == 2 and all(type(n) is int and n >= 0 for n in span)):
        problem = f"batches.{name} must be [offset, length]"
        raise DecodeError(problem)
    start, size = span
    if start + size > body.size:
        problem = f"batches.{name} ends after the message does"
        raise DecodeError(problem)
    try:
        stream = body.slice(start, size)
        compressed, nulls = inspect(stream)
        if compressed:
            problem = f"batches.{name} is compressed; let the Kafka producer compress instead"
            raise DecodeError(problem)
        with pa.ipc.open_stream(stream) as reader:
            _check_schema(name, stream, reader, schemas[name])
            batch = reader.read_next_batch()
        batch.validate(full=False)
        _check_values(name, batch, schemas[name], nulls=nulls)
    except (pa.ArrowException, StopIteration, OSError, UnicodeDecodeError, struct.error) as error:
        problem = f"batches.{name} is not an Arrow stream: {str(error)[:200]}"
        raise DecodeError(problem) from None
    if batch.num_rows > MAX_ROWS:
        problem = f"batches.{name} has {batch.num_rows} rows; a message holds at most {MAX_ROWS}"
        raise DecodeError(problem)
    return batch


# By the bytes of the message that says them; all exporters of a release say the same.
_KNOWN_SCHEMAS: dict[bytes, pa.Schema] = {}


def _check_schema(name: str, stream: pa.Buffer, reader: pa.RecordBatchStreamReader, wanted: pa.Schema) -> None:
    """Compare columns; what was compared before is known by its bytes, which costs a tenth."""
    # A marker, the size of a flatbuffer, and the schema as that flatbuffer. Older streams have no marker.
    marker, size = _BEGIN.unpack_from(stream)
    said = memoryview(stream)[: 8 + size].tobytes() if marker == _MARKER and size < _MAX_HEADER else None
    if said is not None and _KNOWN_SCHEMAS.get(said) is wanted:
        return
    _check_columns(name, reader.schema, wanted)
    if said is None:
        return
    if len(_KNOWN_SCHEMAS) >= _MOST_SCHEMAS:
        _KNOWN_SCHEMAS.clear()
    _KNOWN_SCHEMAS[said] = wanted


def _check_columns(name: str, found: pa.Schema, wanted: pa.Schema) -> None:
    if found.equals(wanted):
        return
    for position, column in enumerate(wanted.names):
        if position >= len(found.names) or not found.field(position).equals(wanted.field(position)):
            problem = f"batches.{name}: column {position} must be {column}, {wanted.field(position).type}, not null"
            raise DecodeError(problem)
    problem = f"batches.{name} has {len(found.names)} columns instead of {len(wanted.names)}"
    raise DecodeError(problem)


def _check_values(name: str, batch: pa.RecordBatch, wanted: pa.Schema, *, nulls: bool) -> None:
    """Refuse nulls, and offsets or dictionary indices that point outside, which would read foreign memory.

    Compiled loops trust the indices of what was decoded.
    """
    if nulls:
        problem = f"batches.{name}.{_with_nulls(batch)} holds nulls"
        raise DecodeError(problem)
    if not batch.num_rows:
        return
    for number, column_name, text in _pointing(wanted):
        problem = (_text_problem if text else _dictionary_problem)(batch.column(number))
        if problem:
            message = f"batches.{name}.{column_name} {problem}"
            raise DecodeError(message)


def _with_nulls(batch: pa.RecordBatch) -> str:
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if column.null_count or (isinstance(column, pa.DictionaryArray) and column.dictionary.null_count):
            return str(name)
    return str(batch.schema.names[0])


# By identity: to compare or hash a schema costs more than to decode a column. Schemas of messages are few constants.
_POINTING: dict[int, tuple[pa.Schema, tuple[tuple[int, str, bool], ...]]] = {}
_MOST_SCHEMAS = 64


def _pointing(schema: pa.Schema) -> tuple[tuple[int, str, bool], ...]:
    """Return the columns that point into other memory: number, name, and whether it is plain text."""
    known = _POINTING.get(id(schema))
    if known is None or known[0] is not schema:
        columns = [(n, f.name, f.type) for n, f in enumerate(schema)]
        coded = [(n, name, False) for n, name, kind in columns if pa.types.is_dictionary(kind)]
        texts = [(n, name, True) for n, name, kind in columns if pa.types.is_string(kind)]
        known = schema, (*coded, *texts)
        if len(_POINTING) >= _MOST_SCHEMAS:
            _POINTING.clear()
        _POINTING[id(schema)] = known
    return known[1]


def _dictionary_problem(column: pa.DictionaryArray) -> str:
    words = column.dictionary
    # As unsigned numbers, negative indices are large ones.
    if column.indices.to_numpy().view(np.uint32).max() >= len(words):
        return "points outside its dictionary"
    if pa.types.is_string(words.type):
        return _text_problem(words)
    words.validate()
    return ""


def _text_problem(column: pa.StringArray) -> str:
    column.validate(full=True)
    if column.nbytes > MAX_TEXT_BYTES and _longest(column) > MAX_TEXT_BYTES:
        return f"holds text of more than {MAX_TEXT_BYTES} bytes"
    return ""


def _longest(column: pa.StringArray) -> int:
    """Bytes of the longest text, from the offsets: Arrow's functions would be eight megabytes in every exporter."""
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset :][: len(column) + 1]
    return int(np.diff(offsets).max())
