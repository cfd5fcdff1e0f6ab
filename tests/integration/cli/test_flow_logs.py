"""Commands on flow logs: what captures can do, they can too."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.integration.cli.conftest import Ran
from tests.log_samples import BEGIN, conn, json_line, observed

Command = Callable[..., Ran]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A port scan in a Zeek conn.log: sixty refused ports in six seconds, among connections."""
    refused = {"conn_state": "REJ", "history": "Sr", "orig_bytes": 0, "resp_bytes": 0, "orig_pkts": 1, "resp_pkts": 1,
               "orig_ip_bytes": 60, "resp_ip_bytes": 40, "duration": 0.01, "id.orig_h": "10.0.0.9"}  # fmt: skip
    scan = [conn(n, **(refused | {"ts": BEGIN + 20 + n / 10, "id.resp_p": 1000 + n})) for n in range(60)]
    path = tmp_path / "conn.log"
    path.write_text("".join(json_line(c) + "\n" for c in [*[conn(n) for n in range(15)], *scan]))
    return path


@pytest.fixture
def flood(tmp_path: Path) -> Path:
    """A flood of connections in NetObserv records, which name both sides."""
    path = tmp_path / "flows.json"
    ports = (observed(n // 1500, SrcPort=10_000 + n, DstK8S_Name="server-1", DstK8S_Namespace="shop",
                      DstK8S_Type="Pod") for n in range(30_000))  # fmt: skip
    path.write_text("".join(json_line(record) + "\n" for record in ports))
    return path


def alerts_in(lines: str) -> list[dict[str, Any]]:
    words = [orjson.loads(line) for line in lines.splitlines()]
    return [word for word in words if word["type"] == "alert"]


def test_replay_finds_a_scan(command: Command, log: Path) -> None:
    ran = command("replay", log)
    assert ran.code == 0, ran.err
    assert "port_scan_vertical" in ran.out
    assert "75 records" in ran.out
    assert "packets" not in ran.out.splitlines()[-2]


def test_alerts_repeat_what_the_source_cannot_know(command: Command, log: Path) -> None:
    alerts = alerts_in(command("replay", "--json", log).out)
    scans = [alert for alert in alerts if alert["detector"] == "port_scan"]
    assert scans
    assert any("Zeek conn.log" in note for note in scans[-1]["data_quality"]["notes"])


def test_alerts_carry_the_names_of_the_log(command: Command, flood: Path, tmp_path: Path) -> None:
    alerts = alerts_in(command("replay", "--json", flood).out)
    victims = [v for alert in alerts if alert["detector"] == "connection_flood" for v in alert["victims"]]
    assert {(v["namespace"], v["pod"]) for v in victims} == {("shop", "server-1")}
    inventory = tmp_path / "inventory.jsonl"
    mine = {"kind": "Pod", "uid": "a", "namespace": "real", "name": "mine", "ips": ["10.0.0.2"]}
    inventory.write_text(json.dumps(mine) + "\n")
    alerts = alerts_in(command("replay", "--json", "--inventory", inventory, flood).out)
    victims = [v for alert in alerts if alert["detector"] == "connection_flood" for v in alert["victims"]]
    assert {(v["namespace"], v["pod"]) for v in victims} == {("real", "mine")}


def test_inspect_says_what_it_sees(command: Command, log: Path) -> None:
    ran = command("inspect", "--json", log)
    found = orjson.loads(ran.out)
    (source,) = found["sources"]
    assert (source["source"], source["ended"]) == ("zeek_conn", True)
    assert "dns" in source["blind_to"]
    assert found["clock"] is None
    assert command("inspect", log).code == 0


def test_an_exported_log_gives_the_same_alerts(command: Command, log: Path, tmp_path: Path) -> None:
    events = tmp_path / "events.sge"
    assert command("export", log, "--to", "file", "--output", events, "--node", "node1").code == 0
    assert command("replay", "--json", events).out == command("replay", "--json", log).out


def test_a_log_through_a_pipe(log: Path) -> None:
    run = [sys.executable, "-m", "sluicegate", "replay", "--json", "-"]
    piped = subprocess.run(run, input=log.read_bytes(), capture_output=True, check=True, timeout=120)
    assert b"port_scan_vertical" in piped.stdout


def test_evaluate_grades_logs(command: Command, log: Path, tmp_path: Path) -> None:
    line = {"expect": "alert", "kind": "port_scan_vertical", "src": "10.0.0.9", "dst": "10.0.0.2"}
    case = {"id": "scan", "input": log.name, "format": "zeek_conn_json", "expect": [line]}
    (tmp_path / "case.json").write_text(json.dumps(case))
    graded = orjson.loads(command("evaluate", "--json", tmp_path).out)
    assert graded["totals"] == graded["totals"] | {"graded": 1, "hits": 1, "misses": 0, "false_alerts": 0}


def test_evaluate_takes_an_inventory_beside_the_cases(command: Command, log: Path, tmp_path: Path) -> None:
    case = {"id": "scan", "input": log.name, "format": "zeek_conn_json",
            "expect": [{"expect": "report", "kind": "port_scan_vertical"}]}  # fmt: skip
    (tmp_path / "case.json").write_text(json.dumps(case))
    ran = command("evaluate", tmp_path, "--inventory", tmp_path / "absent.jsonl")
    assert ran.code == 2
    assert "absent.jsonl: cannot read the inventory" in ran.said
    ranges = {"kind": "Range", "uid": "r", "name": "scanners", "ips": ["10.0.0.0/24"], "role": "scanner"}
    (tmp_path / "given.jsonl").write_text(json.dumps(ranges) + "\n")
    assert command("evaluate", tmp_path, "--inventory", tmp_path / "given.jsonl").code == 0


def test_evaluate_grades_labelled_names_family_by_family(command: Command, tmp_path: Path) -> None:
    families = (("dga", "one"), ("dga", "two"), ("benign", "web"))
    rows = [f"{label},{family},{family}{n}.example" for n in range(5) for label, family in families]
    table = "\n".join(["label,family,domain", *rows])
    (tmp_path / "names.csv").write_text(table)
    lines = [{"expect": "alert", "kind": "dga", "src": "each row with label dga"},
             {"expect": "silence", "kind": "dga", "src": "each row with label benign"}]  # fmt: skip
    case = {"id": "names", "input": "names.csv", "format": "domain_list", "expect": lines}
    (tmp_path / "case.json").write_text(json.dumps(case))
    (graded,) = orjson.loads(command("evaluate", "--json", tmp_path).out)["cases"]
    assert [(line["expect"], line["src"]) for line in graded["lines"]] == [
        ("alert", "dga one"), ("alert", "dga two"), ("silence", "benign web"),
    ]  # fmt: skip


def test_a_log_of_damage_alone(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "conn.log"
    path.write_text(json_line(conn(ts=-1)) + "\n")
    ran = command("replay", path)
    assert ran.code == 2
    assert "has no record of Zeek conn.log that can be read: line 1 was left out" in ran.said
