"""Identities beside rows: told once, moved with the rows, below what an inventory says."""

from __future__ import annotations

import json
from pathlib import Path

from exporter.chunks import CaptureReport
from exporter.learned_names import LearnedNames
from exporter.run import Capture, export
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from sluicegate.inputs import learning
from tests.log_samples import BEGIN, observed
from tests.unit.exporter.flow_logs import read_json
from tests.unit.exporter.test_delivery import Kept


def test_each_name_is_told_once_and_again_when_it_changes() -> None:
    report = CaptureReport()
    names = LearnedNames(report)
    for seconds, name in ((5, "a"), (6, "a"), (9, "b"), (12, "a")):
        names.tell("10.0.0.1", seconds, "Pod", "shop", name)
    assert [(item.name, item.valid_from) for item in report.identities] == [("a", 0), ("b", 9), ("a", 12)]
    table = IdentityTable(report.identities)
    found = [table.find("10.0.0.1", at) for at in (8, 10, 13)]
    assert [item.name if item else "" for item in found] == ["a", "b", "a"]


def test_names_that_are_none_are_noted_and_left_out() -> None:
    report = CaptureReport()
    names = LearnedNames(report)
    names.tell("10.0.0.1", 5, "Pod", "shop", "x" * 300)
    names.tell("10.0.0.1", 5, "Banana", "shop", "x")
    names.tell("10.0.0.1", 5, "Pod", "shop", "")
    assert report.identities == []
    assert report.problems == ["names that are no names of objects were left out"]


def test_an_address_is_one_however_it_is_written() -> None:
    report = CaptureReport()
    names = LearnedNames(report)
    for text in ("fd00:0:0::1", "fd00::1", "FD00::1"):
        names.tell(text, 5, "Pod", "shop", "a")
    assert [item.ips for item in report.identities] == [("fd00::1",)]


def test_an_inventory_stands_above_a_log(tmp_path: Path) -> None:
    mine = InventoryObject(kind="Pod", uid="1", name="mine", ips=("10.0.0.1",), valid_from=BEGIN)
    table, report, taken = IdentityTable([mine]), CaptureReport(), list[InventoryObject]()
    messages = read_json(tmp_path, [observed(), observed(5, SrcK8S_Name="other-1")], report)
    list(learning(iter(messages), report, table, taken))
    found = [table.find("10.0.0.1", at) for at in (BEGIN - 1, BEGIN, BEGIN + 9)]
    assert [item.name if item else "" for item in found] == ["client-1", "mine", "mine"]
    assert [item.name for item in taken] == ["client-1"]
    assert not report.identities


async def test_exports_tell_names_before_the_rows_and_moved_like_them(tmp_path: Path) -> None:
    path = tmp_path / "flows.json"
    path.write_text("".join(json.dumps(observed(n, SrcK8S_Name=f"client-{n // 2}")) + "\n" for n in range(4)))
    kept = Kept()
    await export([Capture(path, "node1")], kept, "lab", first_cut=BEGIN + 1001, boot="t")
    assert kept.messages[1].header.cut == BEGIN + 1001
    assert [(item.name, item.valid_from) for _, item in kept.identities] == [
        ("client-0", 0), ("client-1", BEGIN + 1002),
    ]  # fmt: skip
    assert all(before <= 1 for before, _ in kept.identities)
