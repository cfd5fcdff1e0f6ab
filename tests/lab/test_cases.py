"""The recorded cases are whole: files match their records, truth lies inside, and the recorder knows each one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.lab import inventory
from tests.lab.frames import ends
from tests.lab.pcapng import read
from tests.lab.record import CASES_DIR, MAX_CAPTURE_BYTES, all_cases

FOLDERS = sorted(path.parent for path in CASES_DIR.glob("*/*/case.json"))
KNOWN = all_cases()
MAX_ALL_BYTES = 12_000_000


def identity(folder: Path) -> str:
    return str(folder.relative_to(CASES_DIR))


def told(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "case.json").read_bytes())
    return loaded


def test_every_case_of_the_lab_is_recorded() -> None:
    assert [identity(folder) for folder in FOLDERS] == sorted(KNOWN)


def test_all_captures_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in CASES_DIR.rglob("*") if path.is_file()) <= MAX_ALL_BYTES


@pytest.mark.parametrize("folder", FOLDERS, ids=identity)
def test_record_matches_capture(folder: Path) -> None:
    case = told(folder)
    path = folder / case["input"]
    raw = path.read_bytes()
    packets = read(path)
    assert (len(raw), hashlib.sha256(raw).hexdigest()) == (case["bytes"], case["sha256"])
    assert len(raw) <= MAX_CAPTURE_BYTES
    assert len(packets) == case["packets"]
    times = [packet.time_ns for packet in packets]
    assert times == sorted(times)
    assert round((times[-1] - times[0]) / 1e9, 3) == case["span_s"]
    assert case["title"] == KNOWN[identity(folder)].title


@pytest.mark.parametrize("folder", FOLDERS, ids=identity)
def test_truth_lies_inside_the_capture(folder: Path) -> None:
    case = told(folder)
    assert case["expect"], "a case without truth proves nothing"
    for line in case["expect"]:
        assert line["expect"] in {"alert", "silence", "report"}
        if line["expect"] != "silence":
            assert 0 <= line["start_s"] <= line["end_s"] <= case["span_s"] + 0.001
            assert line["packets"] > 0


@pytest.mark.parametrize("folder", FOLDERS, ids=identity)
def test_no_packet_is_recorded_twice(folder: Path) -> None:
    """A pod's packets are on its own veth only: one address, one interface."""
    where: dict[str, set[str]] = {}
    for packet in read(folder / told(folder)["input"]):
        found = ends(packet.data)
        if found is not None and found.src.startswith("10.244.1."):
            where.setdefault(found.src, set()).add(packet.interface)
    spoofs = identity(folder).startswith(("syn_flood", "demo"))
    assert all(len(interfaces) == 1 or spoofs for interfaces in where.values())


def test_inventories_are_the_labs() -> None:
    found = [path.read_bytes() for path in sorted(CASES_DIR.glob("*/*/inventory.jsonl"))]
    assert len(found) == sum(case.inventory for case in KNOWN.values())
    assert set(found) == {inventory.lines()}
