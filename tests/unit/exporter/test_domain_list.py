"""Lists of names as the questions of one client."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.chunks import CaptureReport
from exporter.sources.byte_source import CaptureError
from exporter.sources.domain_list import BEGIN
from schemas.events import Capability
from tests.unit.exporter.flow_logs import read, rows


def test_one_question_a_second(tmp_path: Path) -> None:
    messages = read(tmp_path, "# a comment\nWWW.Example.com.\n\nsecond.example\n")
    found = rows(messages, "dns")
    assert [(r["qname"], r["time"] // 10**9 - BEGIN) for r in found] == [("www.example.com", 0), ("second.example", 1)]
    assert all(r["query_bytes"] > len(r["qname"]) for r in found)
    assert len({r["client"] for r in found}) == 1
    assert Capability(messages[0].header.capabilities) == Capability.DNS


def test_labels_are_not_read(tmp_path: Path) -> None:
    table = read(tmp_path, 'label,family,"domain"\ndga,x,one.example\nbenign,y,"two.example"\n')
    assert rows(table, "dns") == rows(read(tmp_path, "one.example\ntwo.example\n"), "dns")


def test_what_is_no_name_is_named(tmp_path: Path) -> None:
    names = [f"host{n}.example" for n in range(30)]
    report = CaptureReport()
    assert len(rows(read(tmp_path, "\n".join([*names[:9], "not a name", *names[9:]]), report), "dns")) == 30
    assert report.problems == ["line 10 was left out: no domain name"]


@pytest.mark.parametrize("content", ["10.0.0.1\n10.0.0.2\n", "hello\nworld\n", "one.example\nand some text\n"])
def test_other_text_is_not_taken_for_names(tmp_path: Path, content: str) -> None:
    with pytest.raises(CaptureError, match="not a capture"):
        read(tmp_path, content)
