"""Whatever comes in: one clear line, the right exit code, no traceback."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Ran

Command = Callable[..., Ran]


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("name", ["replay", "inspect"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"GIF89a" + bytes(50), "not a capture"),
        (b"\xd4\xc3\xb2\xa1\x02\x00", "header"),
        (b"\x0a\x0d\x0d\x0a\x1c\x00", "header"),
        (gzip.compress(b"not a capture at all, only text"), "not a capture"),
        (b"\x1f\x8b\x08\x00garbage", ""),
        (b"SGEF\x10\x00\x00\x00abc", "message 0 is cut off"),
        (b'{"header": {}}\n', "line 1: header"),
    ],
)
def test_what_is_no_capture(command: Command, tmp_path: Path, name: str, content: bytes, said: str) -> None:
    file = tmp_path / "odd\x1b[2J.pcap"
    file.write_bytes(content)
    ran = command(name, file)
    assert ran.code == 2
    assert said in ran.said
    assert "odd\\x1b[2J.pcap" in ran.said
    assert "\x1b" not in ran.err


@pytest.mark.parametrize("name", ["replay", "inspect", "export"])
def test_an_absent_file(command: Command, name: str) -> None:
    more = ("--to", "jsonl") if name == "export" else ()
    ran = command(name, "/nonexistent/x.pcap", *more)
    assert ran.code == 2
    assert "/nonexistent/x.pcap" in ran.said


def test_a_truncated_capture_is_analysed_up_to_its_end(command: Command, scan: Path, tmp_path: Path) -> None:
    whole = gzip.decompress(scan.read_bytes())
    cut = tmp_path / "cut.pcapng"
    cut.write_bytes(whole[: len(whole) * 3 // 4 + 7])
    ran = command("replay", cut)
    assert ran.code == 0
    assert "port_scan_vertical" in ran.out
    assert "cut off" in ran.said
    assert "Data quality" in ran.out.splitlines()[-1] or "cut off" in ran.out


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("unique_prots_scanned > 10", "unique_ports_scanned"),
        ("__import__('os').system('touch /tmp/owned') > 1", ""),
        ("().__class__.__bases__[0] > 1", ""),
        ("connection_rate.real > 1", ""),
        ("[x for x in (1, 2)] > 1", ""),
        ("connection_rate > " + "9" * 600, ""),
    ],
)
def test_a_rule_that_is_none(command: Command, tmp_path: Path, condition: str, said: str) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(f'detection_rules:\n  - name: bad\n    condition: "{condition}"\n')
    for ran in (command("rules", "check", rules), command("replay", "x.pcap", "--rules", rules)):
        assert ran.code == 2
        assert f"{rules}:3: " in ran.said
        assert said in ran.said


def test_an_unreachable_broker(command: Command, monkeypatch: pytest.MonkeyPatch, nobody: str, scan: Path) -> None:
    monkeypatch.setenv("SLUICEGATE_STREAM__KAFKA__BOOTSTRAP", nobody)
    for arguments in (
        ("topics", "check"), ("topics", "create"), ("alerts", "tail"), ("export", scan, "--to", "kafka"),
    ):  # fmt: skip
        ran = command(*arguments)
        assert ran.code == 3, arguments
        assert nobody in ran.said


@pytest.mark.parametrize("content", [None, "just text", "clusters: 7", "apiVersion: [", "\x00"])
def test_an_unreadable_kubeconfig(command: Command, tmp_path: Path, content: str | None) -> None:
    kubeconfig = tmp_path / "config"
    if content is not None:
        kubeconfig.write_text(content)
    ran = command("respond", "--kubeconfig", kubeconfig)
    assert ran.code == 2
    assert str(kubeconfig) in ran.said


def test_files_that_are_not_what_they_should_be(command: Command, tmp_path: Path, scan: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text("{]")
    for arguments in (
        ("replay", scan, "--inventory", bad), ("replay", scan, "--policy", bad), ("evaluate", tmp_path / "absent"),
        ("--config", bad, "config", "show"), ("respond", "--no-cluster", "--policies", bad),
        ("demo", "--case", tmp_path),
    ):  # fmt: skip
        ran = command(*arguments)
        assert ran.code == 2, arguments
        assert str(tmp_path) in ran.said


def test_inventory_mistakes_name_the_line(command: Command, tmp_path: Path, scan: Path) -> None:
    inventory = tmp_path / "inventory.jsonl"
    inventory.write_text('{"kind": "Pod", "uid": "1", "name": "a", "ips": ["10.0.0.1"]}\n\n{"kind": "Pot"}\n')
    assert f"{inventory}:3: " in command("replay", scan, "--inventory", inventory).said
    inventory.write_text('{"kind": "Pod", "uid": "1", "name": "a", "ips": ["10.0.0.1.5"]}\n')
    assert "Pod a" in command("replay", scan, "--inventory", inventory).said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("replay",), "see sluicegate replay --help"),
        (("repaly", "x"), "repaly"),
        (("replay", "x", "--nope"), "--nope"),
        (("export", "x", "--to", "mars"), "mars"),
        (("export", "x", "--to", "jsonl", "--speed", "0"), "--speed"),
        (("export", "x", "--to", "jsonl", "--speed", "nan"), "--speed"),
        (("inspect", "x", "--top", "0"), "--top"),
        (("replay", "a", "b", "--node", "n"), "--node"),
        (("replay", "a", "b", "--node", "n", "--node", "n"), "--node"),
        (("config", "show", "nothing.here"), "nothing.here"),
    ],
)
def test_wrong_usage(command: Command, arguments: tuple[str, ...], said: str) -> None:
    ran = command(*arguments)
    assert ran.code == 2
    assert said in ran.said


def test_an_output_that_cannot_be_written(command: Command, scan: Path) -> None:
    for arguments in (
        ("replay", scan, "--output", "/nonexistent/alerts.jsonl"),
        ("export", scan, "--to", "file", "--output", "/nonexistent/events"),
    ):
        ran = command(*arguments)
        assert ran.code == 2
        assert "/nonexistent/" in ran.said


def test_a_bug_is_one_line_unless_debugging(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> None:
        message = "first line\nsecond line"
        raise RuntimeError(message)

    monkeypatch.setattr("detectors.rule_file.load_rule_file", broken)
    ran = command("rules", "check", "x")
    assert ran.code == 70
    assert "RuntimeError: first line" in ran.said
    monkeypatch.setenv("SLUICEGATE_DEBUG", "1")
    with pytest.raises(RuntimeError):
        command("rules", "check", "x")


def test_interruption_is_exit_code_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("detectors.rule_file.load_rule_file", interrupted)
    ran = command("rules", "check", "x")
    assert (ran.code, ran.said) == (130, "sluicegate: interrupted")


def test_the_process_itself(tmp_path: Path) -> None:
    """Streams that cannot show everything, and a reader that leaves early."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    sluicegate = [sys.executable, "-m", "sluicegate"]
    done = subprocess.run(
        [*sluicegate, "replay", tmp_path / "größe"], capture_output=True, env=environment, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    with subprocess.Popen([*sluicegate, "config", "show"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) in (0, 141)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (("--probe", "shop"), "give --cluster"),
        (("--cluster", "--probe-wait", "9"), "give --probe NAMESPACE"),
        (("--probe-image", "sluicegate:1"), "give --probe NAMESPACE"),
    ],
)
def test_a_probe_that_would_do_nothing_is_refused(command: Command, options: tuple[str, ...], remedy: str) -> None:
    ran = command("doctor", *options)
    assert ran.code == 2
    assert remedy in ran.said
