from __future__ import annotations

import io
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from schemas.event_codec import (
    FILE_MAGIC,
    EventDecodeError,
    EventMessage,
    batch_to_rows,
    decode,
    encode,
    encode_json,
    read_file,
    rows_to_batch,
    write_file,
)
from schemas.events import KINDS, MAX_TEXT, arrow_schema
from schemas.framing import MAX_ROWS
from tests.unit.schemas.messages import event_messages, header, small_event

ROW: dict[str, Any] = {"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 6}
slow = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def same(found: EventMessage, wanted: EventMessage) -> bool:
    kinds = {kind for kind, batch in wanted.batches.items() if batch.num_rows}
    return (
        found.header == wanted.header
        and set(found.batches) == kinds
        and all(batch_to_rows(k, found.batches[k]) == batch_to_rows(k, wanted.batches[k]) for k in kinds)
    )


@slow
@given(event_messages())
def test_the_arrow_form_comes_back_as_it_was(message: EventMessage) -> None:
    value = encode(message)
    assert same(decode(value), message)
    assert encode(decode(value)) == value


@slow
@given(event_messages())
def test_the_json_form_says_the_same(message: EventMessage) -> None:
    found = decode(encode_json(message))
    assert same(found, message)
    assert all(batch.schema.equals(arrow_schema(kind)) for kind, batch in found.batches.items())


@slow
@given(event_messages())
def test_a_file_holds_its_messages_in_order(message: EventMessage) -> None:
    target = io.BytesIO()
    assert write_file(target, [message, small_event(), message]) == 3
    target.seek(0)
    first, second, third = read_file(target)
    assert same(first, message)
    assert same(second, small_event())
    assert same(third, message)


def test_a_heartbeat_and_empty_batches_hold_no_rows() -> None:
    empty = EventMessage(header(), {"flow": rows_to_batch("flow", [], 1000)})
    found = decode(encode(empty))
    assert (found.batches, found.rows("flow"), found.rows("dns")) == ({}, 0, 0)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_columns_left_out_of_json_take_their_absent_values(kind: str) -> None:
    row = {"flow": ROW, "dns": {"client": "::1", "server": "::2", "qname": "a"}, "link": {"claim": 1}}.get(
        kind, {"src": "::1", "dst": "::2"}
    )
    (full,) = batch_to_rows(kind, rows_to_batch(kind, [row], 1000))
    for column in KINDS[kind]:
        if column.name in row or column.absent == "never":
            continue
        wanted: Any = {"all zero": "::", "empty": "", "": False}.get(column.absent)
        assert full[column.name] == (int(column.absent) if wanted is None else wanted), column.name
    times = [full[c.name] for c in KINDS[kind] if c.unit == "ns since epoch" and c.absent == "never"]
    assert set(times) <= {999_999_999_999}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({}, "src is missing"),
        ({**ROW, "colour": 1}, "unknown column 'colour'"),
        ({**ROW, "src": 5}, "src: '5' is not an address in text"),
        ({**ROW, "src": None}, "src: 'None' is not an address"),
        ({**ROW, "src": "10.0.0.256"}, "src: '10.0.0.256' does not appear"),
        ({**ROW, "src_packets": None}, "src_packets: 'None' is not int64"),
        ({**ROW, "src_packets": True}, "src_packets: 'True' is not int64"),
        ({**ROW, "src_packets": 1.5}, "src_packets: '1.5' is not int64"),
        ({**ROW, "src_packets": -1}, "src_packets: -1 is negative"),
        ({**ROW, "src_packets": 1 << 63}, "src_packets: "),
        ({**ROW, "src_port": 70_000}, "src_port: "),
        ({**ROW, "copy": 1}, "copy: '1' is not bool"),
        ({**ROW, "app": 5}, "app: '5' is not text"),
        ({**ROW, "app": "x" * (MAX_TEXT + 1)}, "app: must be text of at most 512 characters"),
        (7, "must be an object"),
    ],
)
def test_a_wrong_json_row_is_named(row: Any, complaint: str) -> None:
    value = orjson.dumps({"header": header().model_dump(), "rows": {"flow": [ROW, row]}})
    with pytest.raises(EventDecodeError, match=r"rows\.flow") as problem:
        decode(value)
    assert complaint in str(problem.value)
    assert str(problem.value).isprintable()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"cluster": ""}, "header.cluster"),
        ({"node": "n" * 254}, "header.node"),
        ({"cut": -1}, "header.cut"),
        ({"cut": 1 << 35}, "header.cut"),
        ({"part": 2, "parts": 2}, "part 2 is outside its 2 parts"),
        ({"sampling": 0}, "header.sampling"),
        ({"lost_packets": 1 << 60}, "header.lost_packets"),
        ({"clock": "wall"}, "header.clock"),
        ({"schema_version": 2}, "header.schema_version"),
    ],
)
def test_a_wrong_header_field_is_named(change: dict[str, Any], complaint: str) -> None:
    value = orjson.dumps({"header": {**header().model_dump(), **change}})
    with pytest.raises(EventDecodeError, match=complaint):
        decode(value)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (b"", "neither an Arrow nor a JSON"),
        (b"\x00" * 100, "neither an Arrow nor a JSON"),
        (b"{", "message is not JSON"),
        (b"{}", "header"),
        (b"SGE1", "cut off after 4 bytes"),
        (b"SGE1\xff\xff\xff\xff", "header length 4294967295 does not fit"),
        (b"SGE1\x04\x00\x00\x00null", "header must be an object"),
        (b"SGE1\x02\x00\x00\x00{}", "header.batches is missing"),
        (orjson.dumps({"header": header().model_dump(), "rows": []}), "rows must be an object"),
        (orjson.dumps({"header": header().model_dump(), "rows": {"odd": []}}), "rows.odd"),
        (orjson.dumps({"header": header().model_dump(), "rows": {"flow": [0] * (MAX_ROWS + 1)}}), "at most 65536 rows"),
    ],
)
def test_what_is_no_message_is_said(value: bytes, complaint: str) -> None:
    with pytest.raises(EventDecodeError, match=complaint):
        decode(value)


def test_unknown_header_fields_of_newer_writers_are_ignored() -> None:
    value = orjson.dumps({"header": {**header().model_dump(), "later": 1}})
    assert decode(value).header == header()


def test_reading_a_file_gives_what_was_whole_before_the_damage() -> None:
    target = io.BytesIO()
    write_file(target, [small_event(), small_event()])
    whole = target.getvalue()
    source = read_file(io.BytesIO(whole[:-1]))
    assert same(next(source), small_event())
    with pytest.raises(EventDecodeError, match="message 1 is cut off"):
        next(source)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\xd4\xc3\xb2\xa1 a capture", "not a file of events"),
        (b"", "not a file of events"),
        (FILE_MAGIC + b"\x01", "message 0 is cut off"),
        (FILE_MAGIC + b"\xff\xff\xff\xff", "message 0 is cut off"),
        (FILE_MAGIC + b"\x02\x00\x00\x00{}", "header"),
        (b"{}\n", "line 1: header"),
        (encode_json(small_event()) + b"\n\n{\n", "line 3: message is not JSON"),
    ],
)
def test_a_strange_file_is_refused_with_its_place(content: bytes, complaint: str) -> None:
    with pytest.raises(EventDecodeError, match=complaint):
        list(read_file(io.BytesIO(content)))


def test_a_file_of_json_lines_reads() -> None:
    line = encode_json(small_event())
    messages = list(read_file(io.BytesIO(line + b"\n\n" + line)))
    assert len(messages) == 2
    assert all(same(message, small_event()) for message in messages)


def test_rows_of_arrow_text_are_as_limited_as_those_of_json() -> None:
    batch = rows_to_batch("flow", [ROW], 1000)
    position = batch.schema.get_field_index("app")
    long = pa.array(["x" * 2049]).dictionary_encode().cast(batch.schema.field("app").type)
    with pytest.raises(EventDecodeError, match=r"batches\.flow\.app holds text of more than 2048 bytes"):
        decode(encode(EventMessage(header(), {"flow": batch.set_column(position, batch.schema.field("app"), long)})))
