"""``make bench``: every benchmark, one table, one JSON file with the machine's facts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from benchmarks import checkpoint, decode, engine, worker
from benchmarks.machine import load_average, machine_facts
from benchmarks.table import figures_table

DEFAULT_OUTPUT = Path("build") / "bench.json"

Step = Callable[[], dict[str, Any]]


def steps(*, short: bool, kafka: bool, seed: int, say: Callable[[str], None]) -> dict[str, Step]:
    """Return what to run, by name, in order; the short form shows that all of it works and measures nothing well."""
    chosen: dict[str, Step] = {
        "decode": (lambda: decode.run(20_000, seed, 1)) if short else (lambda: decode.run(seed=seed)),
        "engine": (lambda: engine.run(2, seed, 1, rows=100)) if short else (lambda: engine.run(seed=seed)),
        "exporter": lambda: _exporter(20_000 if short else 400_000, 1 if short else 3),
        "checkpoint": lambda: checkpoint.run(checkpoint.SIZES[: 2 if short else 4], seed, kafka=kafka, say=say),
    }
    if kafka:
        chosen["worker"] = lambda: worker.run(40_000 if short else 1_600_000, seed, say=say)
    return chosen


def run(chosen: dict[str, Step], say: Callable[[str], None]) -> dict[str, Any]:
    """Run the steps one after another; returns their figures and the machine's facts, ready for JSON."""
    facts = machine_facts()
    found: dict[str, Any] = {}
    for name, step in chosen.items():
        say(f"measuring: {name}")
        found[name] = {**step(), "load_average_after": load_average()}
    return {"machine": facts, "benchmarks": found}


def _exporter(packets: int, repeats: int) -> dict[str, Any]:
    try:
        from benchmarks import exporter_decode

        return exporter_decode.run(packets=packets, repeats=repeats)
    except ImportError as error:
        return {"skipped": f"{error.name} is not installed: make bench installs it"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit code: 1 where a benchmark failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--short", action="store_true", help="small sizes, no Kafka: seconds instead of minutes")
    parser.add_argument("--no-kafka", action="store_true", help="leave out the worker, and checkpoints through Kafka")
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="decode, engine, exporter, checkpoint or worker; may be repeated",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the generated traffic (default 1)")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, metavar="FILE", help=f"default {DEFAULT_OUTPUT}")
    given = parser.parse_args(arguments)
    # Not a terminal: nothing tells the width, and folded figures are hard to read in a log.
    console, progress = Console(width=None if sys.stdout.isatty() else 160), Console(stderr=True)

    def say(line: str) -> None:
        progress.print(line, style="dim", markup=False, highlight=False)

    wanted = given.only or []
    chosen = steps(
        short=given.short, kafka=not (given.no_kafka or (given.short and not wanted)), seed=given.seed, say=say
    )
    unknown = sorted(set(wanted) - set(chosen))
    if unknown:
        parser.error(f"--only {unknown[0]}: known here: {', '.join(chosen)}")
    try:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.touch()  # a path that cannot be written is said before minutes of measuring, not after
        result = run({name: step for name, step in chosen.items() if not wanted or name in wanted}, say)
        given.output.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2) + b"\n")
    except OSError as error:
        parser.error(f"--output {given.output}: {error.strerror}")
    console.print(figures_table(result))
    console.print(f"Written to {given.output}", markup=False, highlight=False)
    return int(any("failed" in figures for figures in result["benchmarks"].values()))
