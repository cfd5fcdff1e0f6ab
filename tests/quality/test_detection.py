"""Scans and floods are told within two seconds of their limit; all cases are measured by `make quality`."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluicegate.case_run import run_cases
from sluicegate.cases import find_cases
from sluicegate.settings import Settings
from tests.quality import detection
from tests.quality.detection import Kind

CASES = Path(__file__).parents[1] / "cases"


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("port_scan/syn", "port_scan_vertical"),
        ("arp_scan/tool_nmap", "arp_scan"),
        ("syn_flood/one_source", "syn_flood"),
    ],
)
def test_told_soon_after_the_limit(case: str, kind: str) -> None:
    (result,) = run_cases(find_cases(CASES / case), Settings(), [], frozenset())
    bound = detection.after_limit(result.folder, result, kind)
    assert bound is not None
    assert 1 <= bound <= detection.SOON_S


def test_only_scans_and_floods_are_held_to_the_promise() -> None:
    kinds = {
        "syn_flood": Kind(after_limit=[1, 4, 4]),
        "arp_scan": Kind(after_limit=[1, 2]),
        "dga": Kind(after_limit=[9]),
    }
    assert detection.late(kinds) == ["syn_flood"]
