"""Reading flow logs made by hand, and their rows in short."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exporter.chunks import CaptureReport
from exporter.settings import ExporterSettings
from exporter.sources.any_source import read_source
from schemas.event_codec import EventMessage, batch_to_rows
from schemas.events import FlowMark
from tests.log_samples import BEGIN

Row = dict[str, Any]
_LETTERS = {
    FlowMark.OPENED: "o", FlowMark.ESTABLISHED: "e", FlowMark.REFUSED: "r", FlowMark.UNANSWERED: "u",
    FlowMark.CLOSED: "c", FlowMark.EXCHANGED: "x",
}  # fmt: skip


def read(
    folder: Path, content: str, report: CaptureReport | None = None, settings: ExporterSettings | None = None
) -> list[EventMessage]:
    path = folder / "made.log"
    path.write_text(content)
    return list(read_source(path, "node", "lab", settings, report))


def read_json(folder: Path, records: Sequence[Any], report: CaptureReport | None = None) -> list[EventMessage]:
    return read(folder, "".join(json.dumps(record) + "\n" for record in records), report)


def rows(messages: Sequence[EventMessage], kind: str = "flow") -> list[Row]:
    """All rows of a kind, each with its cut in s after ``BEGIN`` and its marks as letters."""
    out = []
    for message in messages:
        if kind in message.batches:
            for row in batch_to_rows(kind, message.batches[kind]):
                row["cut"] = message.header.cut - BEGIN
                if kind == "flow":
                    row["marks"] = "".join(letter for mark, letter in _LETTERS.items() if row["marks"] & mark)
                out.append(row)
    return out
