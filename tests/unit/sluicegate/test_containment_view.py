"""What `sluicegate containments` prints of something wider that waits for approval."""

from __future__ import annotations

import pytest

from sluicegate.containment_view import print_containment, print_containments, print_story, words_of
from tests.unit.response.cluster_cases import NOW
from tests.unit.response.test_verify import approved_and_ineffective, known


def test_a_next_rung_that_waits_is_listed_shown_and_explained(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    item = known(approved_and_ineffective())
    print_containments([item], NOW + 20)
    listed = capsys.readouterr().out
    (stands,) = [line for line in listed.splitlines() if " ineffective " in line]
    (waits,) = [line for line in listed.splitlines() if " proposed " in line]
    assert all(word in stands for word in ("0123456789", "block_egress_", "10 min"))
    assert all(word in waits for word in ("0123456789", "quarantine_", "50 s"))
    print_containment(item, NOW + 20)
    shown = capsys.readouterr().out
    assert "quarantine_pod on shop/web-a, which waits for approval" in shown
    assert shown.count("kind: NetworkPolicy") == 2
    print_story(item, (), NOW + 20)
    assert "1 more approvals let quarantine_pod take the place of block_egress_destination" in capsys.readouterr().out


def test_as_words_it_has_its_decision_and_proof() -> None:
    words = words_of(known(approved_and_ineffective()))
    assert words["action"] == "block_egress_destination"
    assert words["next"]["action"] == "quarantine_pod"
    assert words["next"]["decision"]["mode"] == "approve"
    assert words["next"]["proof"]["holds"]
