"""What `make torture` says of its results: right, wrong, or not run and why."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from benchmarks.machine import machine_facts
from tests.torture import attack_state, run
from tests.torture.attack_state import Wanted
from tests.torture.inputs import generated
from tests.torture.load import Load, Source
from tests.torture.scenarios import Torture
from tests.torture.table import result_table
from tests.unit.torture.words import alert

SAME: dict[str, Any] = {"what": "2 workers", "alerts": 3, "differences": 0, "first_differences": []}
DIFFERS: dict[str, Any] = {**SAME, "differences": 2, "first_differences": ["missing: alert [a]", "missing: alert b"]}


def printed(**scenarios: list[dict[str, Any]]) -> str:
    console = Console(width=180, record=True, file=io.StringIO())
    console.print(result_table({"machine": machine_facts(), "scale": "short", "seed": 1, "scenarios": scenarios}))
    return console.export_text()


def test_the_table_says_what_is_wrong() -> None:
    text = printed(workers=[SAME], kill=[DIFFERS], scale=[{"skipped": "no java"}], attacks=[{"wrong": ["too large"]}])
    for words in ("the same", "2 DIFFERENCES", "missing: alert [a]", "skipped: no java", "1 WRONG", "too large"):
        assert words in text


@pytest.mark.parametrize(
    ("result", "wrong"),
    [(SAME, False), (DIFFERS, True), ({"wrong": []}, False), ({"wrong": ["x"]}, True), ({"failed": "x"}, True),
     ({"skipped": "x"}, False)],
)  # fmt: skip
def test_wrong_results_are_told_apart(result: dict[str, Any], wrong: bool) -> None:
    assert run.wrong(result) is wrong


@pytest.mark.parametrize("broken", [False, True])
def test_results_are_written_and_make_the_exit_code(
    broken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario(torture: Torture) -> AsyncIterator[dict[str, Any]]:
        yield {"what": "first", "differences": 0, "first_differences": []}
        if broken:
            raise RuntimeError("the broker is gone")

    monkeypatch.setattr(run, "SCENARIOS", {"truth": scenario})
    output = tmp_path / "new" / "torture.json"
    assert run.main(["--only", "truth", "--scale", "short", "--output", str(output)]) == int(broken)
    (results,) = orjson.loads(output.read_bytes())["scenarios"].values()
    assert [r.get("what", r.get("failed")) for r in results] == [
        "first",
        *["RuntimeError: the broker is gone"] * broken,
    ]
    assert "first" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--only", "nothing"], "nothing"), (["--output", "/dev/null/x.json"], "/dev/null/x.json")],
)
def test_a_mistake_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run.main(["--scale", "short", *arguments])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]


def test_generated_logs_are_the_same_each_time_begin_with_every_node_and_end() -> None:
    log = generated(5000, 3, rows=20, nodes=3)
    first, again = ([m.header for m in log.messages()] for _ in range(2))
    assert first == again
    assert [h.node for h in first[: log.nodes]] == ["node0", "node1", "node2"]
    assert [h.final for h in first[-log.nodes :]] == [True] * 3
    for node in ("node0", "node1", "node2"):
        numbers = [h.sequence for h in first if h.node == node]
        assert numbers == list(range(len(numbers)))


def test_a_load_has_pods_of_its_own_for_each_node_and_moves_on() -> None:
    source = Source(Load(nodes=120, rows=20), seed=1)
    early, late = (list(source.second(second)) for second in (0, 7))
    assert [m.header.node for m in early[:2]] == ["node0", "node1"]
    assert {m.header.cut for m in late} == {early[0].header.cut + 7}
    ends = late[110].batches["flow"].column("end").to_numpy()
    assert ((ends // 10**9) == late[0].header.cut - 1).all()
    seen = [
        {a for name in ("src", "dst") for a in m.batches["flow"].column(name).dictionary.to_pylist()}
        for m in (early[3], early[53], early[103])
    ]
    networks = [{a[12:14] for a in hosts if a[12] == 10} for hosts in seen]
    assert networks == [{b"\x0a\xf4"}, {b"\x0a\xf3"}, {b"\x0a\xf2"}]


def test_an_assault_asks_for_what_must_be_found() -> None:
    assaults = {one.name: one for one in attack_state.assaults(lead_s=10, share=1.0)}
    assert set(assaults) == {"spoofed", "names of one", "names of many", "ports"}
    one = Wanted("port_scan", "10.0.0.9")
    assert not one.judged([])["right"]
    named = alert(1, attackers=({"ip": "10.0.0.9"},))
    assert one.judged([named, alert(2, attackers=({"ip": "10.0.0.9"},))])["right"]
    assert not one.judged([named, alert(1, id="b", attackers=({"ip": "10.0.0.9"},))])["right"]
