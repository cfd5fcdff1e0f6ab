"""``make torture``: every scenario, one table, one JSON file with the machine's facts."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from benchmarks.machine import load_average, machine_facts
from benchmarks.worker import CACHE
from sluicegate.local_broker import LocalBroker, missing_tools
from tests.torture import attack_state, disturbance, in_process, latency, scale, truth
from tests.torture.answer import Replayed, replayed
from tests.torture.inputs import Log, generated, recorded
from tests.torture.kafka_run import Disturbance, through_kafka, undisturbed
from tests.torture.load import Load
from tests.torture.table import result_table

DEFAULT_OUTPUT = Path("build") / "torture.json"

Result = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """How much and how long; `short` shows that all of it works and proves little."""

    shifts: int  # of the recorded hour
    flows: int  # of the generated stream
    rows: int  # of a node's second in it
    nodes: int
    batch_flows: int  # of the generated stream that is cut and fed in many ways
    kills: int
    churn_s: float
    broker_s: float
    away_s: float
    share: float  # of a million sources, a million names, all ports
    lead_s: int  # of ordinary traffic before these
    minutes: float  # of event time of the thousand nodes
    scale_nodes: int
    latency_s: int


SIZES = {
    "short": Size(1, 30_000, 40, 4, 30_000, 3, 20, 20, 10, 0.05, 60, 0.25, 100, 20),
    "full": Size(5, 20_000_000, 400, 50, 400_000, 20, 180, 60, 60, 1.0, 600, 10, 1000, 60),
}


@dataclass
class Torture:
    """What the scenarios share: sizes, the seed, the logs with their replays, and the brokers, made when asked for."""

    size: Size
    seed: int
    say: Say
    _replays: dict[str, Replayed] = field(default_factory=dict)
    _brokers: dict[int, LocalBroker] = field(default_factory=dict)

    def logs(self) -> list[Log]:
        """The recorded and the generated log."""
        size = self.size
        return [recorded(size.shifts), generated(size.flows, self.seed, size.rows, size.nodes)]

    def short_logs(self) -> list[Log]:
        """One shift of the recorded log, and a generated log that can be run many times."""
        return [recorded(1), generated(self.size.batch_flows, self.seed, rows=40, nodes=4)]

    def replay(self, log: Log) -> Replayed:
        """The answer that a log must have."""
        if log.about not in self._replays:
            self.say(f"replaying: {log.about}")
            self._replays[log.about] = replayed(log.messages())
        return self._replays[log.about]

    def broker(self, nodes: int) -> LocalBroker:
        """A running cluster of so many brokers; one at a time, as two cores carry no more."""
        for other in set(self._brokers) - {nodes}:
            self._brokers.pop(other).stop()
        if nodes not in self._brokers:
            broker = LocalBroker(CACHE, nodes=nodes, progress=self.say)
            self._brokers[nodes] = broker
            broker.start()
        return self._brokers[nodes]

    def close(self) -> None:
        """Stop the brokers."""
        while self._brokers:
            self._brokers.popitem()[1].stop()


async def _truth(torture: Torture) -> AsyncIterator[Result]:
    log = recorded(torture.size.shifts)
    yield {"what": log.about, **truth.graded(torture.replay(log), torture.size.shifts)}


async def _batches(torture: Torture) -> AsyncIterator[Result]:
    for log in torture.short_logs():
        for result in in_process.batches(log, torture.replay(log), torture.seed):
            yield {"input": log.name, **result}
            await asyncio.sleep(0)  # where Ctrl-C is heard


async def _replay(torture: Torture) -> AsyncIterator[Result]:
    for log in torture.logs():
        yield {"input": log.name, **await in_process.replay_command(log, torture.replay(log))}


async def _workers(torture: Torture) -> AsyncIterator[Result]:
    for log in torture.logs():
        for count in (1, 2, 4):
            yield await _run(torture, log, f"{count} workers", count, undisturbed)


async def _kill(torture: Torture) -> AsyncIterator[Result]:
    count = torture.size.kills
    for log in torture.logs():
        yield await _run(torture, log, f"{count} SIGKILLs", 2, disturbance.kills(count, torture.seed))


async def _churn(torture: Torture) -> AsyncIterator[Result]:
    seconds = torture.size.churn_s
    for log in torture.logs():
        what = f"a worker joins or leaves every 5 s for {seconds:g} s"
        yield await _run(torture, log, what, 1, disturbance.coming_and_going(seconds, 5.0, torture.seed))


async def _broker(torture: Torture) -> AsyncIterator[Result]:
    for log in torture.logs():
        killed = disturbance.broker_killed(torture.size.broker_s, torture.seed)
        yield await _run(torture, log, "one broker of three killed", 2, killed, brokers=3)


async def _away(torture: Torture) -> AsyncIterator[Result]:
    away = torture.size.away_s
    for log in torture.logs():
        for what, made in (("paused", disturbance.brokers_paused), ("stopped", disturbance.brokers_stopped)):
            yield await _run(torture, log, f"all brokers {what} for {away:g} s", 2, made(away), brokers=3)


async def _run(torture: Torture, log: Log, what: str, workers: int, disturb: Disturbance, brokers: int = 1) -> Result:
    wanted, broker = torture.replay(log), torture.broker(brokers)
    torture.say(f"{log.name}: {what}")
    copies = min(3, brokers)
    found = await through_kafka(log, wanted, broker.bootstrap, workers, disturb, broker, copies)
    return {"input": log.name, "what": what, "brokers": brokers, **found}


async def _attacks(torture: Torture) -> AsyncIterator[Result]:
    for assault in attack_state.assaults(torture.size.lead_s, torture.size.share):
        torture.say(assault.title)
        yield await attack_state.run(assault, torture.broker(1).bootstrap, torture.size.lead_s, torture.seed)


async def _scale(torture: Torture) -> AsyncIterator[Result]:
    load = Load(torture.size.scale_nodes, scale.LOAD.rows)
    yield await scale.run(torture.broker(1), torture.size.minutes, torture.seed, load)


async def _latency(torture: Torture) -> AsyncIterator[Result]:
    bootstrap, seconds = torture.broker(1).bootstrap, torture.size.latency_s
    most = await latency.maximum(bootstrap, seconds, torture.seed)
    yield {"what": "the most that one worker takes", "flows_per_second": most}
    for share in latency.SHARES:
        for spread in (True, False):
            manner = "spread over the second" if spread else "all in 100 ms"
            torture.say(f"{share:.0%} of {most:,} flows/s, {manner}")
            found = await latency.at_load(bootstrap, int(most * share), seconds, torture.seed, spread=spread)
            yield {"what": f"{share:.0%} load, {manner}", **found}


SCENARIOS: dict[str, Callable[[Torture], AsyncIterator[Result]]] = {
    "truth": _truth, "batches": _batches, "replay": _replay, "workers": _workers, "kill": _kill, "churn": _churn,
    "broker": _broker, "away": _away, "attacks": _attacks, "scale": _scale, "latency": _latency,
}  # fmt: skip
WITHOUT_KAFKA = ("truth", "batches", "replay")


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
    torture = Torture(Size(**{**vars(size), **changes}), given.seed, say)
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
