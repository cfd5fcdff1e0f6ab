"""``make torture``: every scenario, one table, one JSON file with the machine's facts."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from benchmarks.machine import load_average, machine_facts
from benchmarks.worker import CACHE
from sluicegate.local_broker import missing_tools
from tests.torture.scenarios import SCENARIOS, SIZES, WITHOUT_KAFKA, Result, Torture
from tests.torture.table import result_table

DEFAULT_OUTPUT = Path("build") / "torture.json"


def wrong(result: Result) -> bool:
    """Tell whether a result is not as it must be: it differs, misses something, or did not come about."""
    return bool(result.get("differences") or result.get("wrong") or "failed" in result)


async def run(torture: Torture, names: Sequence[str], done: Callable[[dict[str, list[Result]]], None]) -> None:
    """Run scenarios one after another; `done` is told all results so far after each."""
    found: dict[str, list[Result]] = {}
    try:
        for name in names:
            found[name] = []
            if name not in WITHOUT_KAFKA and (problems := missing_tools(CACHE)):
                found[name].append({"skipped": "; ".join(problems)})
            else:
                await _collect(torture, name, found[name], lambda: done(found))
            done(found)
    finally:
        torture.close()


async def _collect(torture: Torture, name: str, into: list[Result], done: Callable[[], None]) -> None:
    torture.say(f"scenario: {name}")
    try:
        async for result in SCENARIOS[name](torture):
            into.append({**result, "load_average_after": load_average()})
            if wrong(result):
                lines = result.get("first_differences") or result.get("wrong") or [""]
                torture.say(f"WRONG: {result.get('what', name)}: {lines[0]}")
            done()
    except Exception as error:
        # One scenario that cannot be run must not take the others with it; it is said and makes the exit code 1.
        torture.say(f"FAILED: {name}: {type(error).__name__}: {error}")
        into.append({"failed": f"{type(error).__name__}: {error}"})


def main(words: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit code: 1 where something was not as it must be."""
    given, parser = _arguments(words)
    console, progress = Console(width=None if sys.stdout.isatty() else 180), Console(stderr=True)

    def say(line: str) -> None:
        progress.print(line, style="dim", markup=False, highlight=False)

    size = SIZES[given.scale]
    changes = {name: value for name in ("flows", "minutes", "kills") if (value := getattr(given, name)) is not None}
    torture = Torture(replace(size, **changes), given.seed, say)
    result: dict[str, Any] = {"machine": machine_facts(), "scale": given.scale, "seed": given.seed, "scenarios": {}}

    def write(found: dict[str, list[Result]]) -> None:
        result["scenarios"] = found
        given.output.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2) + b"\n")

    try:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        write({})
    except OSError as error:
        parser.error(f"--output {given.output}: {error.strerror}")
    # Workers and brokers that go away on purpose fill pages of their clients' log.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    wanted: Awaitable[None] = run(torture, given.only or list(SCENARIOS), write)
    try:
        asyncio.run(wanted)  # type: ignore[arg-type]
    except KeyboardInterrupt:
        say("stopped; workers and brokers are gone")
        return 130
    finally:
        console.print(result_table(result))
        console.print(f"Written to {given.output}", markup=False, highlight=False)
    return int(any(wrong(one) for results in result["scenarios"].values() for one in results))


def _arguments(words: Sequence[str] | None) -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(SCENARIOS), metavar="NAME",
                        help=f"one of {', '.join(SCENARIOS)}; may be repeated")  # fmt: skip
    parser.add_argument("--scale", choices=list(SIZES), default="full", help="how much and how long (default full)")
    parser.add_argument("--seed", type=int, default=1, help="of traffic, kills and everything random (default 1)")
    parser.add_argument("--flows", type=int, help="flow rows of the generated stream")
    parser.add_argument("--minutes", type=float, help="event time of the thousand nodes")
    parser.add_argument("--kills", type=int, help="how many workers are killed")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, metavar="FILE", help=f"default {DEFAULT_OUTPUT}")
    return parser.parse_args(words), parser
