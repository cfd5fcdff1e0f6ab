"""Trying a policy file on alerts."""

from __future__ import annotations

from pathlib import Path

import pytest

from response.policyfile import DEFAULT_POLICY_FILE
from response.settings import ResponseSettings
from schemas.alert import Alert
from sluicegate.policy_trial import print_trial, read_alert_lines, trial
from sluicegate.problems import CommandProblem
from tests.unit.response.test_record import alert


def lines(path: Path, *alerts: Alert) -> Path:
    watermark = b'{"type":"watermark","sender":"correlate/0","tick":1,"senders":1}\n'
    path.write_bytes(watermark + b"\n".join(item.encode() for item in alerts) + b"\n\n")
    return path


def test_alerts_are_decided_as_the_worker_decides_them(tmp_path: Path) -> None:
    file = lines(tmp_path / "alerts.jsonl", alert(), alert(2), alert(id="alert-2", kind="syn_flood", spoofable=True))
    decided = trial(DEFAULT_POLICY_FILE, read_alert_lines(file))
    assert [(item.alert_id, item.category, item.mode) for item in decided] == [
        ("alert-1", "intrusion", "dry-run"),
        ("alert-2", "ddos", "dry-run"),
    ]


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = lines(tmp_path / "alerts.jsonl", alert())
    print_trial(trial(DEFAULT_POLICY_FILE, read_alert_lines(file)), ResponseSettings(), None)
    said = capsys.readouterr().out
    assert "port_scan_vertical is intrusion; mode dry-run: default" in said
    assert "1 decisions" in said


def test_a_line_that_is_no_alert_is_named(tmp_path: Path) -> None:
    file = tmp_path / "alerts.jsonl"
    file.write_bytes(alert().encode() + b"\n{}\n")
    with pytest.raises(CommandProblem, match=r"alerts.jsonl: line 2: "):
        trial(DEFAULT_POLICY_FILE, read_alert_lines(file))
