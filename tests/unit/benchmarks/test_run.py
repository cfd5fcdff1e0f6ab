"""The short form runs everything but Kafka; the table shows what was measured, and what was not and why."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from benchmarks import checkpoint, engine, run, worker
from benchmarks.machine import machine_facts
from benchmarks.stopwatch import Taken
from benchmarks.table import Line, figures_table, lines
from detectors.registry import detector_classes

WORKER: dict[str, Any] = {
    "2000": {
        "consume_decode": {"per_cpu_second": 1000, "per_wall_second": 900},
        "worker": {"per_cpu_second": 500, "per_wall_second": 400},
        "to_ceiling": 0.5, "cpu_share": 0.8, "peak_memory_mb": 321, "stage_two_later_s": 0.1, "committed_later_s": 9.5,
    },
    "load_average_after": [1.0, 1.0, 1.0],
}  # fmt: skip


def result(**benchmarks: Any) -> dict[str, Any]:
    return {"machine": machine_facts(), "benchmarks": benchmarks}


def test_short_form_measures_all_but_kafka(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "bench.json"
    assert run.main(["--short", "--output", str(output)]) == 0
    written = orjson.loads(output.read_bytes())
    assert {"cores", "cpu", "kernel", "python", "packages", "load_average"} <= set(written["machine"])
    found = written["benchmarks"]
    assert set(found) == {"decode", "engine", "exporter", "checkpoint"}
    assert set(found["engine"]["sets"]) == {
        "none",
        *detector_classes(),
        "all",
        "all, detect stage only",
        "all, many nodes",
    }
    rates = [one["flows_per_second"]["per_cpu_second"] for s in found["engine"]["sets"].values() for one in s.values()]
    assert min(rates) > 0
    printed = capsys.readouterr().out
    assert "engine: all" in printed
    assert "checkpoint of 10,000 keys, all" in printed
    one = found["checkpoint"]["10000"]["pages"]["4096"]
    assert one["untouched"]["bytes"] < one["touched"]["bytes"] < one["full"]["bytes"] < 1.1 * one["state_bytes"]
    assert "skipped" in found["exporter"] or "exporter: capture to messages" in printed


def test_short_form_leaves_kafka_out() -> None:
    chosen = run.steps(short=True, kafka=False, seed=1, say=lambda _: None)
    assert list(chosen) == ["decode", "engine", "exporter", "checkpoint"]
    assert "worker" in run.steps(short=False, kafka=True, seed=1, say=lambda _: None)


def test_checkpoints_through_kafka_stand_beside_those_in_memory() -> None:
    found = checkpoint.run((100,), kafka=False)
    found["100"]["kafka"] = {"full_seconds": 1.5, "touched_seconds": 0.02, "restore_seconds": 3.0}
    notes = [line.note for line in lines(result(checkpoint=found))]
    ends = ["; 1,500 ms through Kafka", "; 20 ms through Kafka", "; 3,000 ms through Kafka"]
    assert [note.endswith(end) for note, end in zip(notes, ends, strict=True)] == [True] * 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "nothing"], "--only nothing: known here: decode"),
        (["--output", "/dev/null/x.json"], "/dev/null/x.json"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run.main(["--short", *arguments])
    assert ended.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in last


def test_a_set_enables_only_its_detectors() -> None:
    given = engine.settings(("port_scan",)).detectors
    assert [name for name, fields in given.items() if fields["enabled"]] == ["port_scan"]


def test_worker_stands_beside_its_ceiling() -> None:
    ceiling, line = lines(result(worker=WORKER))
    assert (ceiling.cpu, ceiling.ratio) == (1000, None)
    assert (line.cpu, line.wall, line.ratio) == (500, 400, 0.5)
    assert "321 MiB" in line.note


@pytest.mark.parametrize("word", ["skipped", "failed"])
def test_what_was_not_measured_says_why(word: str) -> None:
    assert lines(result(worker={word: "java is not on the PATH"})) == [
        Line("worker", "", None, None, note=f"{word}: java is not on the PATH")
    ]


def test_table_prints_every_line() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(figures_table(result(worker=WORKER)))
    text = console.export_text()
    assert "consume and decode, 2000 rows a message" in text
    assert "50%" in text


def test_rates_are_per_second_of_each_clock() -> None:
    assert Taken(cpu=2.0, wall=4.0).rates(1000) == {"per_cpu_second": 500, "per_wall_second": 250}


def test_a_failure_is_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "steps", lambda **_: {"worker": lambda: {"failed": "it ended"}})
    assert run.main(["--output", str(tmp_path / "x.json")]) == 1


def test_an_unreachable_broker_is_a_failure_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEGATE_KAFKA", "127.0.0.1:1")
    assert "127.0.0.1:1" in worker.run(flows=800, sizes=(50,))["failed"]
