"""Event messages to bytes and back: the Arrow form, the plain JSON form, and files of messages.

Arrow form: ``schemas.framing`` with magic ``SGE1`` and one batch per kind. JSON form: the same header
under ``header`` and rows as objects under ``rows``. A file is a run of messages, each preceded by its
length (u32, little endian), after the magic ``SGEF``; a file of JSON forms, one per line, reads too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
from pydantic import ValidationError

from schemas.addresses import UNSPECIFIED, pack, unpack
from schemas.events import ADDRESS, KINDS, MAX_TEXT, WORD, Column, EventHeader, arrow_schema
from schemas.framing import MAX_ROWS, DecodeError, json_object, pack_frame, unpack_frame

MAGIC = b"SGE1"
FILE_MAGIC = b"SGEF"
MAX_MESSAGE = 64 << 20
_LENGTH = struct.Struct("<I")
_SCHEMAS = {kind: arrow_schema(kind) for kind in KINDS}


class EventDecodeError(DecodeError):
    """A value that is no event message; the text names what is wrong and where."""


@dataclass(frozen=True)
class EventMessage:
    """One node's second: header and the batches that hold rows, by kind.

    ``appended_ms`` is when the broker appended it, ms since epoch (LogAppendTime). It is the record's and not part
    of either form; None where no broker was: files and captures.
    """

    header: EventHeader
    batches: dict[str, pa.RecordBatch] = field(default_factory=dict)
    appended_ms: int | None = None

    def rows(self, kind: str) -> int:
        """Return the number of rows of a kind."""
        batch = self.batches.get(kind)
        return 0 if batch is None else int(batch.num_rows)


def encode(message: EventMessage) -> bytes:
    """Return the Arrow form; empty batches are left out."""
    ordered = {kind: message.batches[kind] for kind in KINDS if kind in message.batches}
    return pack_frame(MAGIC, message.header.model_dump(), ordered)


def decode(value: bytes) -> EventMessage:
    """Read either form.

    Raises:
        EventDecodeError: anything is not as it must be. Nothing partial is returned.
    """
    try:
        if value[:4] == MAGIC:
            header, batches = unpack_frame(value, _SCHEMAS)
            return EventMessage(_header(header), batches)
        if value[:1] == b"{":
            return _decode_json(value)
    except EventDecodeError:
        raise
    except DecodeError as error:
        raise EventDecodeError(str(error)) from None
    problem = f"neither an Arrow nor a JSON event message: begins with {value[:4]!r}"
    raise EventDecodeError(problem)


def _header(value: Any) -> EventHeader:
    try:
        header = EventHeader.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        problem = f"header.{'.'.join(str(p) for p in first['loc'])}: {first['msg']}"
        raise EventDecodeError(problem) from None
    if header.part >= header.parts:
        problem = f"header.part {header.part} is outside its {header.parts} parts"
        raise EventDecodeError(problem)
    return header


# --- plain JSON, for producers made by hand and for reading with one's eyes ---


def _default(dtype: pa.DataType, name: str) -> Any:
    if dtype == ADDRESS:
        return UNSPECIFIED
    if dtype == WORD:
        return ""
    if pa.types.is_boolean(dtype):
        return name == "direction_known"
    return -1 if name in ("rcode", "latency") else 0


# What a JSON row must say; everything else has a value that stands for absent.
REQUIRED = {
    "flow": ("src", "dst", "proto"), "dns": ("client", "server", "qname"), "link": ("claim",),
    "tls": ("src", "dst"), "http": ("src", "dst"),
}  # fmt: skip


def rows_to_batch(kind: str, rows: list[Any], cut: int) -> pa.RecordBatch:
    """Return a batch from row objects; columns left out take their absent value, times the cut's second.

    Raises:
        EventDecodeError: an unknown column, a missing endpoint, or a value of the wrong type.
    """
    columns = KINDS[kind]
    names = {c.name for c in columns}
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            problem = f"rows.{kind}[{number}] must be an object"
            raise EventDecodeError(problem)
        unknown = set(row) - names
        missing = [n for n in REQUIRED[kind] if n not in row]
        if unknown or missing:
            what = f"unknown column {min(unknown)[:40]!r}" if unknown else f"{missing[0]} is missing"
            problem = f"rows.{kind}[{number}]: {what}"
            raise EventDecodeError(problem)
    arrays = []
    for column in columns:
        # The last nanosecond of the second that the cut ends.
        now = column.unit == "ns since epoch" and column.absent == "never"
        default = cut * 1_000_000_000 - 1 if now else _default(column.dtype, column.name)
        try:
            values = [_json_value(column, row.get(column.name, default)) for row in rows]
            arrays.append(pa.array(values, type=column.dtype.value_type).dictionary_encode().cast(column.dtype)
                          if pa.types.is_dictionary(column.dtype) else pa.array(values, type=column.dtype))  # fmt: skip
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            problem = f"rows.{kind}.{column.name}: {str(error)[:120]}"
            raise EventDecodeError(problem) from None
    return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(kind))


def _json_value(column: Column, value: Any) -> Any:
    dtype = column.dtype
    if dtype == ADDRESS and isinstance(value, bytes):
        return value
    if dtype == ADDRESS and isinstance(value, str):
        return pack(value)
    if dtype == WORD and isinstance(value, str) and len(value) > MAX_TEXT:
        problem = f"must be text of at most {MAX_TEXT} characters"
        raise ValueError(problem)
    wanted = bool if pa.types.is_boolean(dtype) else str if dtype in (ADDRESS, WORD) else int
    # By exact type: Arrow would take true for 1, cut off fractions and let nulls pass.
    if type(value) is not wanted:
        names = {ADDRESS: "an address in text", WORD: "text"}
        problem = f"{str(value)[:40]!r} is not {names.get(dtype, dtype)}"
        raise ValueError(problem)
    if wanted is int and int(value) < (-1 if column.absent == "-1" else 0):
        problem = f"{value} is negative"
        raise ValueError(problem)
    return value


def _decode_json(value: bytes) -> EventMessage:
    body = json_object(value, "message")
    header = _header(body.get("header"))
    rows = body.get("rows", {})
    if not isinstance(rows, dict):
        problem = "rows must be an object of lists by kind"
        raise EventDecodeError(problem)
    batches = {}
    for kind, entries in rows.items():
        if kind not in KINDS or not isinstance(entries, list) or len(entries) > MAX_ROWS:
            problem = f"rows.{kind[:40]}: must be a list of at most {MAX_ROWS} rows of a known kind"
            raise EventDecodeError(problem)
        if entries:
            batches[kind] = rows_to_batch(kind, entries, header.cut)
    return EventMessage(header, batches)


def batch_to_rows(kind: str, batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows as objects with addresses in text."""
    columns = {}
    for column in KINDS[kind]:
        values = batch.column(column.name).to_pylist()
        columns[column.name] = [unpack(v) for v in values] if column.dtype == ADDRESS else values
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def encode_json(message: EventMessage) -> bytes:
    """Return the JSON form, one line without its end."""
    rows = {k: batch_to_rows(k, b) for k, b in message.batches.items() if b.num_rows}
    return orjson.dumps({"header": message.header.model_dump(), "rows": rows})


# --- files of messages ---


def write_file(target: BinaryIO, messages: Iterable[EventMessage]) -> int:
    """Write messages in Arrow form; returns how many."""
    target.write(FILE_MAGIC)
    count = 0
    for message in messages:
        value = encode(message)
        target.write(_LENGTH.pack(len(value)))
        target.write(value)
        count += 1
    return count


def read_file(source: BinaryIO) -> Iterator[EventMessage]:
    """Read what ``write_file`` or a JSON-lines producer wrote.

    Raises:
        EventDecodeError: at the first message that is cut off or wrong; those before it have been given.
    """
    start = source.read(4)
    if start[:1] == b"{":
        yield from _read_lines(start, source)
        return
    if start != FILE_MAGIC:
        problem = "not a file of events (it begins neither with SGEF nor with a JSON object)"
        raise EventDecodeError(problem)
    number = 0
    while head := source.read(4):
        length = _LENGTH.unpack(head)[0] if len(head) == 4 else MAX_MESSAGE + 1
        value = source.read(length) if length <= MAX_MESSAGE else b""
        if len(value) != length:
            problem = f"message {number} is cut off"
            raise EventDecodeError(problem)
        yield decode(value)
        number += 1


def _read_lines(start: bytes, source: BinaryIO) -> Iterator[EventMessage]:
    number = 0
    while line := start + source.readline(MAX_MESSAGE):
        start = b""
        number += 1
        if not line.strip():
            continue
        try:
            yield decode(line)
        except EventDecodeError as error:
            problem = f"line {number}: {error}"
            raise EventDecodeError(problem) from None
