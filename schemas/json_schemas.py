"""JSON Schemas (2020-12) of everything that is JSON on a topic; pure, the files in docs are made from these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import orjson
import pyarrow as pa

from schemas.action import Action
from schemas.alert import Alert, Watermark
from schemas.command import Command
from schemas.edge import Edge
from schemas.event_codec import REQUIRED
from schemas.events import ADDRESS, KINDS, MAX_TEXT, WORD, Column, EventHeader
from schemas.finding import Finding
from schemas.framing import MAX_ROWS
from schemas.incident import Incident
from schemas.inventory import InventoryObject
from schemas.node_command import NodeCommand
from schemas.node_report import NodeReport
from schemas.response import ResponseDecision
from schemas.state import SnapshotManifest
from schemas.watch import WatchRow
from schemas.word import DRAFT, Word, json_schema

Schema = dict[str, Any]


class Described(NamedTuple):
    """A word, where it is found, and whether the schema says what we write or what we accept."""

    word: type[Word]
    where: str
    mode: Literal["serialization", "validation"]


WORDS: Mapping[str, Described] = {
    "inventory": Described(InventoryObject, "inventory.v1", "validation"),
    "edge": Described(Edge, "edges.v1", "serialization"),
    "watch": Described(WatchRow, "watch.v1", "serialization"),
    "alert": Described(Alert, "alerts.v1", "serialization"),
    "watermark": Described(Watermark, "alerts.v1", "serialization"),
    "incident": Described(Incident, "incidents.v1", "serialization"),
    "response": Described(ResponseDecision, "responses.v1", "serialization"),
    "command": Described(Command, "commands.v1", "validation"),
    "action": Described(Action, "actions.v1", "serialization"),
    "node_command": Described(NodeCommand, "nodecommands.v1", "validation"),
    "node_report": Described(NodeReport, "nodereports.v1", "serialization"),
    "snapshot": Described(SnapshotManifest, "state.v1", "serialization"),
    "finding": Described(Finding, "between detectors and alerts; on no topic", "serialization"),
}


def schemas() -> dict[str, Schema]:
    """Return the schema of each word and of the JSON form of event messages, by name."""
    found = {name: json_schema(item.word, item.mode) for name, item in WORDS.items()}
    return {**found, "event": event_schema()}


def schema_text(schema: Schema) -> str:
    """Return a schema as the file that holds it."""
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE).decode()


def event_schema() -> Schema:
    """Return the schema of the JSON form of an event message."""
    rows = {kind: {"type": "array", "maxItems": MAX_ROWS, "items": {"$ref": f"#/$defs/{kind}"}} for kind in KINDS}
    return {
        "$schema": DRAFT,
        "title": "EventMessage",
        "description": "One node's second in JSON. Columns left out take their absent value, times the second's end.",
        "type": "object",
        "required": ["header"],
        "properties": {
            "header": EventHeader.model_json_schema(),
            "rows": {"type": "object", "additionalProperties": False, "properties": rows},
        },
        "$defs": {kind: _row_schema(kind, columns) for kind, columns in KINDS.items()},
    }


def _row_schema(kind: str, columns: tuple[Column, ...]) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(REQUIRED[kind]),
        "properties": {column.name: _column_schema(column) for column in columns},
    }


def _column_schema(column: Column) -> Schema:
    described = {"description": f"{column.meaning} ({column.unit})" if column.unit else column.meaning}
    if column.dtype == ADDRESS:
        return {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}], "description": column.meaning}
    if column.dtype == WORD:
        return {"type": "string", "maxLength": MAX_TEXT, **described}
    if pa.types.is_boolean(column.dtype):
        return {"type": "boolean", **described}
    bits = column.dtype.bit_width - pa.types.is_signed_integer(column.dtype)
    return {"type": "integer", "minimum": -1 if column.absent == "-1" else 0, "maximum": (1 << bits) - 1, **described}
