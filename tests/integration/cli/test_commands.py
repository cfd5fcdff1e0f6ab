"""What each command prints for good input."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer

from schemas.alert import Alert
from schemas.incident import Incident
from sluicegate.app import app
from tests.integration.cli.conftest import Ran

Command = Callable[..., Ran]
EXAMPLES = Path(__file__).parents[3] / "examples"


def commands(node: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    node = node if node is not None else typer.main.get_command(app)
    for name, child in sorted(getattr(node, "commands", {}).items()):
        below = list(commands(child, (*path, name)))
        yield from below or [(*path, name)]


def test_the_commands_are_these() -> None:
    assert [" ".join(path) for path in commands()] == [
        "alerts tail", "allow add", "allow list", "allow remove", "config show", "containments approve",
        "containments explain", "containments extend", "containments list", "containments record",
        "containments reject", "containments resume", "containments revert", "containments show",
        "containments stop", "demo", "doctor", "evaluate", "export", "inspect", "inventory", "keys new",
        "node-agent", "policy test", "replay", "respond", "rules check", "rules import", "rules plan",
        "state drop", "state list", "state show", "topics check", "topics create", "version", "worker",
    ]  # fmt: skip


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_help_has_an_example_that_names_the_command(command: Command, path: tuple[str, ...]) -> None:
    ran = command(*path, "--help")
    assert ran.code == 0
    text = " ".join(ran.out.split())
    assert "Example: sluicegate " in text
    assert " ".join(path) in text.split("Example: sluicegate ")[1]
    assert max(map(len, ran.out.splitlines())) <= 100


def test_replay_prints_alerts_with_names_and_proven_policies(command: Command, cases: Path) -> None:
    folder = cases / "port_scan" / "syn"
    ran = command(
        "replay", folder / "capture.pcapng.gz", "--inventory", cases / "demo/mixed/inventory.jsonl", "--respond"
    )
    assert ran.code == 0
    assert "port_scan_vertical" in ran.out
    assert "batch/import-job" in ran.out
    assert "kind: NetworkPolicy" in ran.out
    assert "proof" in ran.out
    assert "Incidents" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 100


def test_replay_writes_what_it_prints_in_json(command: Command, scan: Path, tmp_path: Path) -> None:
    output = tmp_path / "found.jsonl"
    ran = command("replay", scan, "--json", "--output", output)
    assert ran.out.encode() == output.read_bytes()
    lines = ran.out.encode().splitlines()
    alerts = [Alert.decode(line) for line in lines if orjson.loads(line)["type"] == "alert"]
    incidents = [Incident.decode(line) for line in lines if orjson.loads(line)["type"] == "incident"]
    assert len(alerts) + len(incidents) == len(lines)
    assert {a.id for i in incidents for a in i.alerts} == {alert.id for alert in alerts}
    assert {alert.kind for alert in alerts} == {"port_scan_vertical"}
    keys = {"id", "detector", "kind", "severity", "confidence", "started_at", "ended_at", "detected_at", "attackers",
            "victims", "techniques", "evidence", "explanation", "data_quality", "spoofable"}  # fmt: skip
    assert keys <= set(orjson.loads(ran.out.splitlines()[0]))


def test_an_exported_file_replays_to_the_same_alerts(command: Command, scan: Path, tmp_path: Path) -> None:
    direct = command("replay", scan, "--json").out
    for form in ("file", "jsonl"):
        events = tmp_path / form
        assert command("export", scan, "--to", form, "--output", events).code == 0
        assert command("replay", events, "--json").out == direct


def test_rules_fire_in_a_replay(command: Command, scan: Path) -> None:
    ran = command("replay", scan, "--json", "--rules", EXAMPLES / "rules" / "mission.yaml")
    words = [orjson.loads(line) for line in ran.out.splitlines()]
    assert {word["rule"] for word in words if word["type"] == "alert"} == {None, "port_scan"}


def test_two_captures_are_two_nodes(command: Command, scan: Path) -> None:
    ran = command("replay", scan, scan, "--node", "a", "--node", "b", "--json")
    words = [orjson.loads(line) for line in ran.out.splitlines()]
    assert {word["node"] for word in words if word["type"] == "alert"} == {"a", "b"}


def test_inspect_tells_what_is_in_a_file(command: Command, scan: Path, cases: Path) -> None:
    words = orjson.loads(command("inspect", scan, "--json").out)
    truth = orjson.loads((cases / "port_scan" / "syn" / "case.json").read_bytes())
    assert words["clock"]["packets"] == truth["packets"]
    assert words["clock"]["first"] == truth["first"]
    assert words["talkers"]["top"][0]["src"] == "10.244.1.66"
    assert words["tcp"]["flows"]["opened"] >= 1000
    assert words["tcp"]["flows"]["refused"] >= 999
    ran = command("inspect", scan)
    assert "TCP outcomes" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 100


def test_inspect_counts_the_same_in_an_event_file(command: Command, scan: Path, tmp_path: Path) -> None:
    events = tmp_path / "events"
    command("export", scan, "--to", "file", "--output", events)
    capture, file = (orjson.loads(command("inspect", path, "--json").out) for path in (scan, events))
    for part in ("rows", "talkers", "protocols", "ports", "tcp", "ttl", "dns"):
        assert file[part] == capture[part]
    assert file["sources"][0]["node"] == "node1"


def test_inspect_reads_a_pipe(scan: Path) -> None:
    inspect = [sys.executable, "-m", "sluicegate", "inspect", "-", "--json"]
    with scan.open("rb") as capture:
        done = subprocess.run(inspect, stdin=capture, capture_output=True, check=True)
    assert orjson.loads(done.stdout)["rows"]["flow"] >= 1000


def test_evaluate_grades_the_recorded_scan(command: Command, cases: Path) -> None:
    ran = command("evaluate", cases / "port_scan" / "syn", "--json", "--strict")
    assert ran.code == 0
    words = orjson.loads(ran.out)
    assert words["totals"]["hits"] == 1
    assert words["totals"]["false_alerts"] == 0
    assert 0 <= words["cases"][0]["lines"][0]["time_to_detect_s"] <= 2
    table = command("evaluate", cases / "port_scan" / "syn")
    assert "1 of 1 expected alerts found" in table.out
    assert max(map(len, table.out.splitlines())) <= 100


def test_evaluate_strict_fails_on_a_miss_and_lists_what_is_not_read(
    command: Command, scan: Path, tmp_path: Path
) -> None:
    case = {"input": scan.name, "format": "pcapng", "expect": [{"expect": "alert", "kind": "dga", "src": "10.0.0.1"}]}
    for name, more in {"missed": {}, "foreign": {"format": "suricata_eve"}, "changed": {"sha256": "0"}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / scan.name).write_bytes(scan.read_bytes())
        (tmp_path / name / "case.json").write_bytes(orjson.dumps({"id": name, **case, **more}))
    ran = command("evaluate", tmp_path, "--strict", "--json")
    assert ran.code == 1
    words = orjson.loads(ran.out)
    assert [case["status"] for case in words["cases"]] == ["failed", "not read", "graded"]
    assert words["totals"]["misses"] == 1
    assert command("evaluate", tmp_path).code == 0


def test_rules_check_shows_how_each_rule_is_computed(command: Command) -> None:
    ran = command("rules", "check", EXAMPLES / "rules" / "mission.yaml", "--json")
    words = [orjson.loads(line) for line in ran.out.splitlines()]
    assert [rule["name"] for rule in words] == ["ddos_attack", "port_scan", "suspicious_traffic"]
    assert [rule["stage"] for rule in words] == [2, 1, 2]
    assert words[0]["limits"] == {"connection_rate": 1000}
    assert words[1]["window_s"] == 300


def test_rules_check_shows_every_section(command: Command) -> None:
    known = command("rules", "check", EXAMPLES / "rules" / "known.yaml")
    assert (known.code, known.err) == (0, "")
    assert "role resolver: namespaces kube-system" in known.out
    assert "exception scheduled_scan: roles vulnerability_scanner" in known.out
    assert "until 2030-12-31" in known.out
    words = command("rules", "check", EXAMPLES / "rules" / "sequences.yaml", "--json").out.splitlines()
    assert [orjson.loads(line)["name"] for line in words] == ["break_in", "roaming_attacker", "namespace_in_trouble"]


def test_what_is_imported_from_sigma_can_be_checked(command: Command, tmp_path: Path) -> None:
    rules, bad = tmp_path / "rules.yaml", tmp_path / "bad.yml"
    bad.write_text("title: About files\nlogsource: {category: file_event}\ndetection: {s: {a: b}, condition: s}\n")
    ran = command("rules", "import", EXAMPLES / "sigma.yml", bad, "--output", rules)
    assert (ran.code, ran.out) == (0, "")
    assert [line.partition(": log source")[0] for line in ran.err.splitlines()] == [
        "refused: About files", "3 rules and 1 sequences; 1 refused",
    ]  # fmt: skip
    assert command("rules", "check", rules).code == 0
    assert command("rules", "import", EXAMPLES / "sigma.yml").out == rules.read_text()
    nothing = command("rules", "import", bad)
    assert (nothing.code, nothing.out) == (2, "")
    assert nothing.err.splitlines()[-1] == "sluicegate: nothing was imported: every rule was refused"
    assert command("rules", "import", tmp_path / "absent.yml").said.endswith("No such file or directory")


def test_a_replay_says_what_exceptions_kept_back(command: Command, scan: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "exceptions:\n- {name: everybody, detector: port_scan, match: {cidr: 0.0.0.0/0}, reason: a test}\n"
    )
    ran = command("replay", scan, "--rules", rules)
    assert "No alerts." in ran.out
    assert "Exception everybody:" in ran.out


def test_rules_plan_computes_shared_features_once(command: Command) -> None:
    alone = command("rules", "plan").out
    shared = command("rules", "plan", "--rules", EXAMPLES / "rules" / "mission.yaml").out
    assert alone.count("unique_ports_scanned") == 1
    assert shared.count("unique_ports_scanned") == 1


def test_config_show_names_value_source_and_meaning(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEGATE_STREAM__KAFKA__PREFIX", "mine")
    ran = command("config", "show", "stream.kafka")
    assert "stream.kafka.prefix = mine  [environment]" in ran.out
    assert "leads every topic" in ran.out
    changed = command("config", "show", "--changed", "--json").out.splitlines()
    assert [orjson.loads(line)["name"] for line in changed] == ["stream.kafka.prefix"]


def test_version_names_the_release(command: Command) -> None:
    assert command("version").out.startswith("sluicegate ")
    assert set(orjson.loads(command("version", "--json").out)) >= {"sluicegate", "python", "faust-streaming"}


def test_doctor_reports_every_check(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEGATE_STREAM__KAFKA__BOOTSTRAP", "127.0.0.1:1")
    ran = command("doctor", "--json")
    found = {words["name"]: words for words in map(orjson.loads, ran.out.splitlines())}
    assert {"Python", "libraries", "Java", "Maven", "broker", "cluster", "privileges", "lab tools"} <= set(found)
    assert found["broker"]["state"] == "missing"
    assert all(words["remedy"] for words in found.values() if words["state"] != "ok")
    assert ran.code == 3


def test_the_embedded_demo_finds_everything(command: Command) -> None:
    ran = command("demo", "--embedded")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert "embedded" in lines[0]
    assert "embedded" in lines[-1]
    assert ran.out.count(" hit ") == 3
    assert "kind: NetworkPolicy" in ran.out
    assert max(map(len, lines)) <= 100


def test_the_demo_fails_where_an_expected_alert_is_missing(command: Command, cases: Path, tmp_path: Path) -> None:
    case = orjson.loads((cases / "port_scan" / "syn" / "case.json").read_bytes())
    case["expect"].append({"expect": "alert", "kind": "dns_tunnel", "src": "10.0.0.1"})
    (tmp_path / "case.json").write_bytes(orjson.dumps(case))
    (tmp_path / case["input"]).write_bytes((cases / "port_scan" / "syn" / case["input"]).read_bytes())
    ran = command("demo", "--embedded", "--case", tmp_path)
    assert ran.code == 1
    assert "1 expected alerts are missing" in ran.out
