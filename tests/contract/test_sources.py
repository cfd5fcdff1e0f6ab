"""What every reader of flow logs must keep, found by discovery; the capture source where it applies."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from exporter.chunks import CaptureReport
from exporter.record_rows import absent_column
from exporter.settings import ExporterSettings, ReadingSettings
from exporter.sources import lines
from exporter.sources.any_source import read_source
from exporter.sources.byte_source import CaptureError
from exporter.sources.log_reader import Head, LogReader, log_readers
from schemas.event_codec import EventMessage, decode, encode
from schemas.events import KINDS, MAX_TEXT, Capability
from tests.log_samples import SAMPLES, Sample

COUNT = 20
CAPTURE = Path(__file__).parents[1] / "cases" / "demo" / "mixed" / "capture.pcapng.gz"


def samples() -> Iterator[tuple[str, str, Sample]]:
    for reader in log_readers():
        for form, sample in SAMPLES[reader.id].items():
            yield reader.id, form, sample


every_sample = pytest.mark.parametrize(
    ("source", "sample"), [pytest.param(name, s, id=f"{name}-{form}") for name, form, s in samples()]
)


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


class Reader:
    """Reads content as a file; the report of the last reading is kept."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "made.log"
        self.report = CaptureReport()

    def __call__(self, content: bytes, settings: ExporterSettings | None = None) -> list[EventMessage]:
        self._path.write_bytes(content)
        self.report = CaptureReport()
        return list(read_source(self._path, "node", "lab", settings, self.report))


def rows(messages: list[EventMessage]) -> int:
    return sum(m.rows(kind) for m in messages for kind in m.batches)


def test_every_reader_has_a_sample() -> None:
    assert {reader.id for reader in log_readers()} == set(SAMPLES)


@every_sample
def test_is_recognised_by_one_reader_alone(source: str, sample: Sample) -> None:
    head = Head(sample.content(COUNT), True)
    assert [reader.id for reader in log_readers() if reader.recognises(head)] == [source]


@pytest.mark.parametrize("reader", log_readers(), ids=lambda r: r.id)
@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"{}", b"[]", b"{", b"null\n", b"a,b,c\n1,2,3\n", b"10.0.0.1\n10.0.0.2\n", b"\xff" * 100,
     b'{"header": {}, "rows": {}}\n', b"#fields\tts\n", b'{"flow": 5}\n', b'{"IP": [], "verdict": 1}\n'],
)  # fmt: skip
def test_does_not_recognise_what_is_something_else(reader: type[LogReader], content: bytes) -> None:
    assert not reader.recognises(Head(content, True))


@every_sample
def test_messages_are_whole_and_in_order(source: str, sample: Sample, read: Reader) -> None:
    messages = read(sample.content(COUNT))
    headers = [m.header for m in messages]
    assert {h.source for h in headers} == {source}
    assert {h.clock for h in headers} == {"capture"}
    assert [h.sequence for h in headers] == list(range(len(headers)))
    assert [h.cut for h in headers] == sorted(h.cut for h in headers)
    assert not messages[0].batches
    assert headers[0].cut == headers[1].cut - 1
    assert [h.final for h in headers] == [False] * (len(headers) - 1) + [True]
    assert headers[-1].cut == headers[-2].cut + ReadingSettings().drain_seconds
    assert read.report.records == COUNT
    assert rows(messages) >= COUNT
    assert not read.report.problems
    for message in messages:
        assert decode(encode(message)).batches.keys() == message.batches.keys()


@every_sample
def test_says_what_it_cannot_know(source: str, sample: Sample, read: Reader) -> None:
    notes = {m.header.notes for m in read(sample.content(COUNT))}
    assert len(notes) == 1
    assert next(iter(notes))


@every_sample
def test_times_stand_in_their_second(source: str, sample: Sample, read: Reader) -> None:
    for message in read(sample.content(COUNT)):
        for kind, batch in message.batches.items():
            assert batch.num_rows
            for column in KINDS[kind]:
                if column.unit == "ns since epoch" and column.absent == "never":
                    times = batch.column(column.name).to_numpy()
                    assert (times > 0).all()
                    assert (times < message.header.cut * 1_000_000_000).all()
            if kind == "flow":
                start, end = (batch.column(name).to_numpy() for name in ("start", "end"))
                assert (batch.column("conn_start").to_numpy() <= start).all()
                assert (start <= end).all()


@every_sample
def test_claims_nothing_that_it_cannot_fill(source: str, sample: Sample, read: Reader) -> None:
    """A column that needs a capability which is not claimed holds the value that stands for absent."""
    for message in read(sample.content(COUNT)):
        able = Capability(message.header.capabilities)
        for kind, batch in message.batches.items():
            for column in KINDS[kind]:
                values = batch.column(column.name)
                if column.needs & ~able and column.absent != "never":
                    assert set(values.to_pylist()) == {absent_column(kind, column.name)[0]}, column.name


@every_sample
def test_every_capability_is_used(source: str, sample: Sample, read: Reader) -> None:
    """What is claimed belongs to a column of a kind that is sent, or says what rows mean."""
    messages = read(sample.content(COUNT))
    sent = {kind for m in messages for kind in m.batches}
    offered = Capability.ATTEMPTS | Capability.EXACT_TIME | Capability.REVERSE
    for kind in sent:
        for column in KINDS[kind]:
            offered |= column.needs
    assert Capability(messages[0].header.capabilities) & ~offered == Capability(0)


@every_sample
def test_same_bytes_every_time_and_however_it_is_read(
    source: str, sample: Sample, read: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = sample.content(COUNT)
    whole = [encode(m) for m in read(content)]
    assert [encode(m) for m in read(content)] == whole
    assert [encode(m) for m in read(gzip.compress(content))] == whole
    assert [encode(m) for m in read(content.replace(b"\n", b"\r\n"))] == whole
    assert [encode(m) for m in read(content.removesuffix(b"\n"))] == whole
    for piece in (1, 7, 64):
        monkeypatch.setattr(lines, "_PIECE", piece)
        assert [encode(m) for m in read(content)] == whole


@every_sample
def test_a_long_log_comes_in_blocks_and_is_the_same(
    source: str, sample: Sample, read: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as lines are in order, waiting for fewer of them changes nothing."""
    content = sample.content(300)
    whole = [encode(m) for m in read(content)]
    monkeypatch.setattr(lines, "_BLOCK_LINES", 8)
    few = ExporterSettings(reading=ReadingSettings(sort_records=20))
    assert [encode(m) for m in read(content, few)] == whole
    assert read.report.late == 0


@every_sample
def test_a_damaged_line_is_named_and_loses_nothing_else(source: str, sample: Sample, read: Reader) -> None:
    good = sample.content(COUNT).splitlines(keepends=True)
    number = len(good) - 7
    for damage in (
        b"\x00\xff garbage\n",
        b"{\n",
        b"}{][\x1b[2J\t\t,\n",
        good[number][: len(good[number]) // 2] + b"\n",
    ):
        read(b"".join([*good[:number], damage, *good[number + 1 :]]))
        if read.report.malformed:
            assert read.report.records == COUNT - 1
            assert f"line {number + 1} was left out" in read.report.problems[0]
            assert all(problem.isprintable() for problem in read.report.problems)
        else:
            # Half of a domain name is still one.
            assert source == "domain_list"


@every_sample
def test_a_huge_line_is_left_out(source: str, sample: Sample, read: Reader) -> None:
    good = sample.content(COUNT).splitlines(keepends=True)
    small = ExporterSettings(reading=ReadingSettings(line_bytes=4096))
    huge = b'{"a": "' + b"x" * 1_000_000 + b'"}\n'
    messages = read(b"".join([*good[:-3], huge, *good[-3:]]), small)
    assert read.report.records == COUNT
    assert read.report.malformed == 1
    assert sum(m.header.malformed for m in messages) == 1
    assert "longer than 4096 bytes" in read.report.problems[0]


@every_sample
def test_cut_off_anywhere(source: str, sample: Sample, read: Reader) -> None:
    content = sample.content(5)
    for end in range(0, len(content), 61):
        try:
            read(content[:end])
        except CaptureError as error:
            assert str(error).isprintable()  # noqa: PT017
        assert read.report.records <= 5


@every_sample
def test_flipped_bytes_never_do_more_than_damage_lines(source: str, sample: Sample, read: Reader) -> None:
    chance = random.Random(5)
    for _ in range(25):
        content = bytearray(sample.content(10))
        for _ in range(chance.randint(1, 12)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        try:
            messages = read(bytes(content))
        except CaptureError:
            continue
        for message in messages:
            decode(encode(message))
        assert all(problem.isprintable() for problem in read.report.problems)


@every_sample
def test_long_words_are_cut(source: str, sample: Sample, read: Reader) -> None:
    """No word in a row is longer than rows may hold."""
    content = sample.content(COUNT)
    for word in (b"example.com", b"http", b"eth0", b"lxc1"):
        content = content.replace(word, word + b"y" * 2000)
    try:
        messages = read(content)
    except CaptureError:
        return
    for message in messages:
        for batch in message.batches.values():
            for column in batch.columns:
                if pa.types.is_dictionary(column.type) and pa.types.is_string(column.type.value_type):
                    assert max(map(len, column.dictionary.to_pylist()), default=0) <= MAX_TEXT


@every_sample
def test_dictionaries_hold_only_what_the_rows_use(source: str, sample: Sample, read: Reader) -> None:
    for message in read(sample.content(COUNT)):
        for batch in message.batches.values():
            for column in batch.columns:
                if pa.types.is_dictionary(column.type):
                    used = np.unique(column.indices.to_numpy())
                    assert used.tolist() == list(range(len(column.dictionary)))


def test_an_empty_file_and_an_unknown_one_are_refused(read: Reader) -> None:
    with pytest.raises(CaptureError, match="is empty"):
        read(b"")
    with pytest.raises(CaptureError, match=r"docs/exporter\.md"):
        read(b"what is this\n" * 10)


def test_the_capture_source_has_nothing_to_note() -> None:
    messages = list(read_source(CAPTURE, "node", "lab"))
    assert {m.header.source for m in messages} == {"capture"}
    assert {m.header.notes for m in messages} == {()}
