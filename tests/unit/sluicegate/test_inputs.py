from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from exporter.chunks import CaptureReport
from exporter.settings import ExporterSettings
from schemas.event_codec import EventMessage, write_file
from schemas.events import EventHeader
from sluicegate.export_run import read_speed
from sluicegate.inputs import in_cut_order, is_event_file, read_any
from sluicegate.node_names import node_names
from sluicegate.problems import CommandProblem


def messages(node: str, *cuts: int) -> Iterator[EventMessage]:
    for sequence, cut in enumerate(cuts):
        yield EventMessage(
            EventHeader(cluster="c", node=node, exporter="e", boot="b", sequence=sequence, cut=cut, source="capture",
                        capabilities=0)
        )  # fmt: skip


def test_heartbeats_come_first_then_all_nodes_by_cut() -> None:
    merged = in_cut_order([messages("a", 10, 11, 13), messages("b", 100, 101), messages("c"), messages("d", 9, 11)])
    order = [(m.header.node, m.header.cut) for m in merged]
    assert order == [("a", 10), ("b", 100), ("d", 9), ("a", 11), ("d", 11), ("a", 13), ("b", 101)]


def test_nodes_are_named_by_number_or_as_told() -> None:
    assert node_names(["x", "y"], []) == ["node1", "node2"]
    assert node_names(["x", "y"], ["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize("given", [["a"], ["a", "a"], ["a", ""], ["a", "b\n"], ["a", "b" * 254]])
def test_names_that_do_not_fit_are_refused(given: list[str]) -> None:
    with pytest.raises(CommandProblem, match="--node"):
        node_names(["x", "y"], given)


@pytest.mark.parametrize(("text", "speed"), [("real", 1.0), ("max", None), ("0.5", 0.5), ("20", 20.0)])
def test_speeds(text: str, speed: float | None) -> None:
    assert read_speed(text) == speed


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "fast", ""])
def test_speeds_that_are_none(text: str) -> None:
    with pytest.raises(CommandProblem, match="--speed"):
        read_speed(text)


def packed(folder: Path) -> Path:
    path = folder / "events.sge.gz"
    with gzip.open(path, "wb") as file:
        write_file(cast(BinaryIO, file), messages("a", 10, 11, 12))
    return path


def read(path: Path) -> tuple[list[int], list[str]]:
    report = CaptureReport()
    found = read_any(str(path), "node1", "c", ExporterSettings(), report)
    return [m.header.cut for m in found], report.problems


def test_event_files_may_be_packed(tmp_path: Path) -> None:
    assert is_event_file(str(packed(tmp_path)))
    assert read(packed(tmp_path)) == ([10, 11, 12], [])


def test_a_packed_file_that_is_cut_off_gives_what_is_whole_and_says_so(tmp_path: Path) -> None:
    path = packed(tmp_path)
    path.write_bytes(path.read_bytes()[:-12])
    cuts, problems = read(path)
    assert cuts == [10, 11, 12][: len(cuts)]
    assert len(problems) == 1
    assert "damaged" in problems[0]


def test_a_packed_file_of_something_else_is_no_event_file(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(b"\x1f\x8bnot really")
    assert not is_event_file(str(path))
    path.write_bytes(gzip.compress(b"\xd4\xc3\xb2\xa1"))
    assert not is_event_file(str(path))
