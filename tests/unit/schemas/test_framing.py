"""No damage gets through: what decodes is valid through and through, the rest is one kind of error."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import event_codec, rollups
from schemas.event_codec import EventDecodeError
from schemas.framing import MAX_ROWS, DecodeError, pack_frame, unpack_frame
from schemas.rollups import SCHEMAS, RollupDecodeError, RollupMessage, decode_rollup
from tests.unit.schemas.messages import rollup_messages, small_event, small_rollup

EVENT = event_codec.encode(small_event())
ROLLUP = small_rollup().encode()
Decode = Callable[[bytes], object]
DECODERS = [(EVENT, event_codec.decode, EventDecodeError), (ROLLUP, decode_rollup, RollupDecodeError)]


def survives(value: bytes, decode: Decode, error: type[DecodeError]) -> None:
    """Decode; anything but the one error fails, and so does a batch that reads outside its buffers."""
    try:
        message = decode(value)
    except error as problem:
        if "\n" in str(problem):
            raise
        return
    assert isinstance(message, event_codec.EventMessage | RollupMessage)
    for batch in message.batches.values():
        batch.validate(full=True)
        assert batch.num_rows <= MAX_ROWS


@pytest.mark.parametrize(("value", "decode", "error"), DECODERS)
def test_every_truncation_is_refused(value: bytes, decode: Decode, error: type[DecodeError]) -> None:
    header_end = 8 + struct.unpack_from("<I", value, 4)[0]
    for length in [*range(header_end + 50), *range(header_end + 50, len(value), 7)]:
        with pytest.raises(error):
            decode(value[:length])


@pytest.mark.parametrize(("value", "decode", "error"), DECODERS)
@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 1 << 40))
def test_flipped_bytes_are_refused_or_harmless(
    value: bytes, decode: Decode, error: type[DecodeError], seed: int
) -> None:
    chance = random.Random(seed)
    damaged = bytearray(value)
    for _ in range(chance.choice([1, 1, 2, 5])):
        place = chance.randrange(4, len(damaged))
        damaged[place] = chance.choice([0, 255, 127, 128, damaged[place] ^ (1 << chance.randrange(8))])
    survives(bytes(damaged), decode, error)


@settings(max_examples=200, deadline=None)
@given(junk=st.binary(max_size=300))
def test_junk_is_refused(junk: bytes) -> None:
    for _, decode, error in DECODERS:
        for value in (junk, b"SGE1" + junk, b"SGR1" + junk, b"{" + junk):
            survives(value, decode, error)


WORDS = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema([pa.field("word", WORDS, nullable=False), pa.field("n", pa.int64(), nullable=False)])


def batch(indices: list[int | None], words: list[str | None] | None = None) -> pa.RecordBatch:
    dictionary = pa.array(["a", "b"] if words is None else words, pa.string())
    column = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), dictionary, safe=False)
    return pa.RecordBatch.from_arrays([column, pa.array(range(len(indices)), pa.int64())], schema=SCHEMA)


def unpack(value: bytes) -> dict[str, pa.RecordBatch]:
    return unpack_frame(value, {"t": SCHEMA})[1]


def test_a_frame_comes_back() -> None:
    header, batches = unpack_frame(pack_frame(b"TEST", {"k": 1}, {"t": batch([0, 1, 0])}), {"t": SCHEMA})
    assert header == {"k": 1}
    assert batches["t"].column("word").to_pylist() == ["a", "b", "a"]


@pytest.mark.parametrize("indices", [[0, 2], [-1], [1 << 30]])
def test_an_index_outside_the_dictionary_is_refused(indices: list[int | None]) -> None:
    with pytest.raises(DecodeError, match=r"t\.word points outside its dictionary"):
        unpack(pack_frame(b"TEST", {}, {"t": batch(indices)}))


def test_nulls_are_refused_in_rows_and_in_dictionaries() -> None:
    with pytest.raises(DecodeError, match=r"t\.word holds nulls"):
        unpack(pack_frame(b"TEST", {}, {"t": batch([0, None])}))
    with pytest.raises(DecodeError, match=r"t\.word holds nulls"):
        unpack(pack_frame(b"TEST", {}, {"t": batch([0], ["a", None])}))


def test_plain_text_with_wrong_offsets_is_refused() -> None:
    schema = pa.schema([pa.field("text", pa.string(), nullable=False)])
    good = pa.RecordBatch.from_arrays([pa.array(["x" * 0x111, "y" * 0x222])], schema=schema)
    value = pack_frame(b"TEST", {}, {"t": good})
    offsets = struct.pack("<iii", 0, 0x111, 0x333)
    assert value.count(offsets) == 1
    # The last offset is right: only the one between leads outside.
    damaged = value.replace(offsets, struct.pack("<iii", 0, 1 << 20, 0x333))
    with pytest.raises(DecodeError, match=r"batches\.t is not an Arrow stream"):
        unpack_frame(damaged, {"t": schema})


@pytest.mark.parametrize("how", ["lz4", "zstd"])
@pytest.mark.parametrize("part", ["rows", "dictionary"])
def test_compressed_bodies_are_refused_before_they_are_unpacked(how: str, part: str) -> None:
    words = ["w" * 2000] * 100 if part == "dictionary" else ["a"]
    rows = 2000 if part == "rows" else 1
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA, options=pa.ipc.IpcWriteOptions(compression=how)) as writer:
        writer.write_batch(batch([0] * rows, list(words)))
    body = sink.getvalue().to_pybytes()
    head = orjson.dumps({"header": {}, "batches": {"t": [0, len(body)]}})
    head += b" " * (-len(head) % 8)
    with pytest.raises(DecodeError, match=r"batches\.t is compressed"):
        unpack(b"TEST" + struct.pack("<I", len(head)) + head + body)


def test_too_many_rows_are_refused() -> None:
    with pytest.raises(DecodeError, match="65537 rows"):
        unpack(pack_frame(b"TEST", {}, {"t": batch([0] * (MAX_ROWS + 1))}))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ([("n", pa.int64())], "column 0 must be word"),
        ([("word", WORDS), ("n", pa.int32())], "column 1 must be n, int64"),
        ([("word", WORDS), ("n", pa.int64()), ("m", pa.int64())], "has 3 columns instead of 2"),
        ([("word", WORDS)], "column 1 must be n"),
    ],
)
def test_other_columns_are_named(fields: list[tuple[str, pa.DataType]], complaint: str) -> None:
    schema = pa.schema([pa.field(name, dtype, nullable=False) for name, dtype in fields])
    one = pa.RecordBatch.from_arrays(
        [pa.array(["a"]).dictionary_encode().cast(d) if d == WORDS else pa.array([1], d) for _, d in fields],
        schema=schema,
    )
    with pytest.raises(DecodeError, match=complaint):
        unpack(pack_frame(b"TEST", {}, {"t": one}))


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"odd": [0, 1]}, "unknown batch 'odd'; known: t"),
        ({"t": [0]}, r"must be \[offset, length\]"),
        ({"t": [-8, 8]}, r"must be \[offset, length\]"),
        ({"t": [True, 8]}, r"must be \[offset, length\]"),
        ({"t": [0, 10_000]}, "ends after the message does"),
        ({"t": [0, 8]}, "not an Arrow stream"),
        ([], "batches is missing"),
    ],
)
def test_a_wrong_table_is_named(table: object, complaint: str) -> None:
    head = orjson.dumps({"header": {}, "batches": table})
    with pytest.raises(DecodeError, match=complaint):
        unpack(b"TEST" + struct.pack("<I", len(head)) + head + bytes(16))


@settings(max_examples=40, deadline=None)
@given(rollup_messages())
def test_rollups_come_back_as_they_were(message: RollupMessage) -> None:
    value = message.encode()
    found = decode_rollup(value)
    assert found.header == message.header
    assert {n: b.to_pylist() for n, b in found.batches.items()} == {
        n: b.to_pylist() for n, b in message.batches.items()
    }
    assert (found.encode(), found.partition) == (value, message.header.partition)


def test_a_source_of_no_victim_is_named() -> None:
    source = pa.RecordBatch.from_pylist([{"victim": 3, "src_hash": 1}], schema=SCHEMAS["new_source"])
    message = RollupMessage(small_rollup().header, {**small_rollup().batches, "new_source": source})
    with pytest.raises(RollupDecodeError, match=r"new_source\.victim points outside the 3 rows"):
        decode_rollup(message.encode())


def test_what_is_no_rollup_is_said() -> None:
    with pytest.raises(RollupDecodeError, match="not a rollup message"):
        decode_rollup(EVENT)
    value = pack_frame(rollups.MAGIC, {"cluster": "c", "sender": -1}, {})
    with pytest.raises(RollupDecodeError, match=r"header\.sender"):
        decode_rollup(value)


@pytest.mark.parametrize("legacy", [False, True])
def test_columns_are_compared_however_often_a_schema_was_seen(legacy: bool) -> None:
    """Streams of old have no marker before their first message, so its bytes are not known by the same place."""
    wanted = pa.schema([pa.field("n", pa.int64(), nullable=False)])
    other = pa.schema([pa.field("n", pa.float64(), nullable=False)])

    def framed(schema: pa.Schema) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(use_legacy_format=legacy)) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays([pa.array([1], schema.field(0).type)], schema=schema))
        body = sink.getvalue().to_pybytes()
        head = orjson.dumps({"header": {}, "batches": {"t": [0, len(body)]}})
        head += b" " * (-(len(head) + 8) % 8)
        return b"".join([b"TEST", struct.pack("<I", len(head)), head, body])

    for _ in range(3):
        assert unpack_frame(framed(wanted), {"t": wanted})[1]["t"].column("n").to_pylist() == [1]
        with pytest.raises(DecodeError, match=r"column 0 must be n, int64"):
            unpack_frame(framed(other), {"t": wanted})
