"""The recorded cases are whole: files match their records, truth lies inside, and the recorder knows each one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.lab import inventory, pods
from tests.lab.pcapng import Packet, read
from tests.lab.record import CASES_DIR, MAX_CAPTURE_BYTES, MAX_ROWS_BYTES, ROWS_DIR, all_cases

FOLDERS = sorted(path.parent for path in CASES_DIR.glob("*/*/case.json"))
KNOWN = all_cases()
MAX_ALL_BYTES = 40_000_000  # about 200 kB for each of two hundred cases; each has a limit of its own
ROUNDING_S = 0.002  # times in a case are in whole milliseconds


def identity(folder: Path) -> str:
    return str(folder.relative_to(CASES_DIR))


def told(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "case.json").read_bytes())
    return loaded


def test_every_case_of_the_lab_is_recorded() -> None:
    assert [identity(folder) for folder in FOLDERS] == sorted(path for path, case in KNOWN.items() if not case.rows)


def test_what_is_kept_as_rows_is_recorded() -> None:
    kept = [case for case in KNOWN.values() if case.rows]
    assert kept
    for case in kept:
        told = json.loads((ROWS_DIR / case.path / "case.json").read_bytes())
        raw = (ROWS_DIR / case.path / told["input"]).read_bytes()
        assert (len(raw), hashlib.sha256(raw).hexdigest()) == (told["bytes"], told["sha256"])
        assert len(raw) <= MAX_ROWS_BYTES
        assert told["title"] == case.title


def test_all_captures_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in CASES_DIR.rglob("*") if path.is_file()) <= MAX_ALL_BYTES


@pytest.fixture(scope="module", params=FOLDERS, ids=identity)
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


@pytest.fixture(scope="module")
def packets(folder: Path) -> list[Packet]:
    return read(folder / told(folder)["input"])


def test_record_matches_capture(folder: Path, packets: list[Packet]) -> None:
    case = told(folder)
    raw = (folder / case["input"]).read_bytes()
    assert (len(raw), hashlib.sha256(raw).hexdigest()) == (case["bytes"], case["sha256"])
    assert len(raw) <= MAX_CAPTURE_BYTES
    assert len(packets) == case["packets"]
    times = [packet.time_ns for packet in packets]
    assert times == sorted(times)
    assert round((times[-1] - times[0]) / 1e9, 3) == case["span_s"]
    assert case["title"] == KNOWN[identity(folder)].title


def test_truth_lies_inside_the_capture(folder: Path) -> None:
    case = told(folder)
    assert case["expect"], "a case without truth proves nothing"
    for line in case["expect"]:
        assert line["expect"] in {"alert", "silence", "report"}
        if line["expect"] != "silence":
            assert 0 <= line["start_s"] <= line["end_s"] <= case["span_s"] + ROUNDING_S
            assert line["packets"] > 0


def test_no_packet_is_recorded_twice(packets: list[Packet]) -> None:
    """What somebody sends enters on one interface only, so nothing is seen a second time on its way out."""
    macs = {pod.mac for pod in pods.PODS}
    where: dict[str, set[str]] = {}
    for packet in packets:
        sender = packet.data[6:12].hex(":")
        if sender in macs:
            where.setdefault(sender, set()).add(packet.interface)
    assert where
    assert all(len(interfaces) == 1 for interfaces in where.values())


def test_inventories_are_the_labs() -> None:
    found = {identity(path.parent): path.read_bytes() for path in CASES_DIR.glob("*/*/inventory.jsonl")}
    told = {path: case for path, case in KNOWN.items() if case.inventory}
    assert found == {path: inventory.lines(case.policies) for path, case in told.items()}
