r"""Zeek logs as columns of text: tab-separated with their header lines, or one JSON object per line.

Formats: https://docs.zeek.org/en/master/log-formats.html (ASCII writer, and its option use_json).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from exporter.sources.byte_source import ByteSource
from exporter.sources.json_records import Record, read_records
from exporter.sources.lines import read_lines
from exporter.sources.log_reader import Head, Reading
from exporter.sources.text_columns import TextColumns

SET_SEPARATOR = "\x1f"
_SETS = {"answers", "TTLs"}
_ENDPOINTS = {"id.orig_h", "id.resp_h", "ts"}


@dataclass
class _Header:
    """What the header lines before tab-separated rows say."""

    separator: str = "\t"
    set_separator: str = ","
    empty: str = "(empty)"
    unset: str = "-"
    fields: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # of the wanted fields; -1: not there

    def take(self, line: str) -> None:
        """Take in one line that begins with ``#``."""
        word, _, rest = line.partition(" " if line.startswith("#separator") else self.separator)
        if word == "#separator" and rest.startswith("\\x") and len(rest) == 4:
            self.separator = bytes.fromhex(rest[2:]).decode("latin-1")
        elif word == "#set_separator":
            self.set_separator = rest[:8]
        elif word == "#empty_field":
            self.empty = rest
        elif word == "#unset_field":
            self.unset = rest
        elif word == "#fields":
            self.fields = rest.split(self.separator)


def zeek_fields(head: Head) -> set[str]:
    """Return the fields that a file's beginning shows; empty where it is no Zeek log with endpoints."""
    header = _Header()
    fields: set[str] = set()
    for line in head.lines:
        if line.startswith("#"):
            try:
                header.take(line)
            except ValueError:
                continue
    fields |= set(header.fields)
    for record in [] if fields else head.records:
        flat = _flat(record)
        if flat.keys() >= _ENDPOINTS:
            fields |= flat.keys()
    return fields if fields >= _ENDPOINTS else set()


def zeek_columns(source: ByteSource, reading: Reading, wanted: Sequence[str]) -> Iterator[tuple[TextColumns, int]]:
    """Give the wanted fields of runs of rows as text, and how many lines were damaged.

    Members of sets and vectors are joined by ``SET_SEPARATOR``; what is unset is null.
    """
    if source.peek(1) != b"#":
        for places, records, lost in read_records(source, reading.settings.reading, reading.damaged, reading.path):
            flat = [_flat(record) for record in records]
            yield TextColumns(places, {name: [_text(r.get(name)) for r in flat] for name in wanted}), lost
        return
    header = _Header()
    for block in read_lines(source, reading.settings.reading.line_bytes):
        lost = reading.damaged.add(block.too_long, f"longer than {reading.settings.reading.line_bytes} bytes")
        numbers: list[int] = []
        rows: list[list[str | None]] = []
        wrong: list[int] = []
        for number, raw in zip(block.numbers, block.lines, strict=True):
            line = raw.decode("utf-8", "replace")
            if line.startswith("#"):
                lost += 0 if _taken(header, line) else reading.damaged.add([number], "no header line of Zeek")
                header.places = [header.fields.index(n) if n in header.fields else -1 for n in wanted]
                continue
            values = line.split(header.separator)
            if len(values) != len(header.fields):
                wrong.append(number)
                continue
            numbers.append(number)
            # Picked now, because a later header line may name other fields.
            rows.append([
                None if place < 0 or (value := values[place]) == header.unset or value == header.empty else value
                for place in header.places
            ])  # fmt: skip
        lost += reading.damaged.add(wrong, "another number of fields than the header line names")
        columns: dict[str, Sequence[str | None]] = {}
        if rows:
            columns = dict(zip(wanted, zip(*rows, strict=True), strict=True))
        for name in columns.keys() & _SETS:
            columns[name] = [v and v.replace(header.set_separator, SET_SEPARATOR) for v in columns[name]]
        yield TextColumns(numbers, columns), lost


def _taken(header: _Header, line: str) -> bool:
    try:
        header.take(line)
    except ValueError:
        return False
    return True


def _flat(record: Record) -> Record:
    """Return a record whose endpoints are under dotted names, as Zeek itself writes them."""
    ends = record.get("id")
    if isinstance(ends, dict):
        return record | {f"id.{name}": value for name, value in ends.items()}
    return record


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, dict):
        return None
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, list):
        return SET_SEPARATOR.join(str(member) for member in value) or None
    return repr(value)
