"""JSON objects of a file: one per line, or documents over several lines (one, a list, a Loki answer)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson

from exporter.settings import ReadingSettings
from exporter.sources.byte_source import ByteSource, CaptureError
from exporter.sources.lines import DamagedLines, read_lines

Record = dict[str, Any]
# (numbers of lines or records, the records, how many were damaged)
RecordRun = tuple[list[int], list[Record], int]
_RUN = 8192
_NO_OBJECT = "no JSON object"


def records_in(head: bytes, whole: bool) -> list[Record]:
    """Return the objects at the beginning of a file, for telling what it holds.

    Args:
        head: its first bytes.
        whole: the file ends with them.
    """
    if head.lstrip()[:1] not in (b"{", b"["):
        return _objects_of_lines(head, whole)
    found = _objects_of_lines(head, whole)
    return found or list(_documents(head.decode("utf-8", "replace"), DamagedDocuments()))


def _objects_of_lines(head: bytes, whole: bool) -> list[Record]:
    lines = head.split(b"\n")
    found = []
    for line in lines if whole else lines[:-1]:
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(value, dict) and "data" not in value:
            found.append(value)
    return found


class DamagedDocuments:
    """Counts what lies between documents and is none."""

    def __init__(self) -> None:
        self.count = 0


def read_records(
    source: ByteSource, settings: ReadingSettings, damaged: DamagedLines, name: str
) -> Iterator[RecordRun]:
    """Read runs of records.

    Raises:
        CaptureError: it is one document that is longer than may be read whole.
    """
    head = source.peek(1 << 16)
    if _objects_of_lines(head, len(head) < 1 << 16):
        yield from _read_lines(source, settings, damaged)
        return
    content = bytearray(settings.document_bytes + 1)
    size = source.fill(memoryview(content))
    if size > settings.document_bytes:
        problem = (
            f"{name} is one JSON document of more than {settings.document_bytes} bytes; make lines of it "
            "with 'jq -c', or raise exporter.reading.document_bytes"
        )
        raise CaptureError(problem)
    broken = DamagedDocuments()
    records = list(_documents(bytes(content[:size]).decode("utf-8", "replace"), broken))
    lost = damaged.add([0] * broken.count, "a part of the document is no JSON object") if broken.count else 0
    for start in range(0, max(len(records), 1), _RUN):
        run = records[start : start + _RUN]
        yield list(range(start + 1, start + 1 + len(run))), run, lost
        lost = 0


def _read_lines(source: ByteSource, settings: ReadingSettings, damaged: DamagedLines) -> Iterator[RecordRun]:
    for block in read_lines(source, settings.line_bytes):
        numbers: list[int] = []
        records: list[Record] = []
        bad: list[int] = []
        for number, line in zip(block.numbers, block.lines, strict=True):
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError:
                value = None
            if isinstance(value, dict):
                numbers.append(number)
                records.append(value)
            else:
                bad.append(number)
        lost = damaged.add(bad, _NO_OBJECT) + damaged.add(block.too_long, f"longer than {settings.line_bytes} bytes")
        yield numbers, records, lost


def _documents(text: str, broken: DamagedDocuments) -> Iterator[Record]:
    """Give the records of documents that follow each other; after a damaged one goes on at the next line's brace."""
    decoder = json.JSONDecoder()
    place = 0
    while True:
        while place < len(text) and text[place].isspace():
            place += 1
        if place >= len(text):
            return
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            broken.count += 1
            place = text.find("\n{", place + 1) + 1
            if not place:
                return
            continue
        yield from _inside(value, broken)


def _inside(value: Any, broken: DamagedDocuments) -> Iterator[Record]:
    """Give the records in a document: a list's members, a Loki answer's values, else itself."""
    if isinstance(value, list):
        for member in value:
            yield from _inside(member, broken) if isinstance(member, dict) else ()
            broken.count += not isinstance(member, dict)
    elif isinstance(value, dict) and isinstance(value.get("data"), dict):
        yield from _loki(value["data"].get("result"), broken)
    elif isinstance(value, dict):
        yield value
    else:
        broken.count += 1


def _loki(result: Any, broken: DamagedDocuments) -> Iterator[Record]:
    """Give the log lines of a Loki query answer, which are JSON in strings, with their stream's labels."""
    for stream in result if isinstance(result, list) else ():
        labels = stream.get("stream") if isinstance(stream, dict) else None
        values = stream.get("values") if isinstance(stream, dict) else None
        for pair in values if isinstance(values, list) else ():
            try:
                record = orjson.loads(pair[1])
            except (orjson.JSONDecodeError, IndexError, KeyError, TypeError):
                record = None
            if isinstance(record, dict):
                yield (labels if isinstance(labels, dict) else {}) | record
            else:
                broken.count += 1
