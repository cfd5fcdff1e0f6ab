"""The scenarios by name: what is run, on which log, with which brokers, and how much of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.worker import CACHE
from sluicegate.local_broker import LocalBroker
from tests.torture import attack_state, disturbance, in_process, latency, scale, truth
from tests.torture.answer import Replayed, replayed
from tests.torture.inputs import Log, generated, recorded
from tests.torture.kafka_run import Disturbance, through_kafka, undisturbed
from tests.torture.load import Load

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
        yield await _run(torture, log, "2 workers that wait for the first event", 2, undisturbed, waiting=True)


async def _kill(torture: Torture) -> AsyncIterator[Result]:
    count = torture.size.kills
    for log in torture.logs():
        yield await _run(torture, log, f"{count} SIGKILLs", 2, disturbance.kills(count, torture.seed))


async def _names(torture: Torture) -> AsyncIterator[Result]:
    count = max(1, torture.size.kills // 4)
    for log in torture.short_logs():
        killed = disturbance.kills(count, torture.seed)
        yield await _run(torture, log, f"other names all the time, {count} SIGKILLs", 2, killed, naming=True)


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


async def _run(
    torture: Torture,
    log: Log,
    what: str,
    workers: int,
    disturb: Disturbance,
    brokers: int = 1,
    *,
    waiting: bool = False,
    naming: bool = False,
) -> Result:
    wanted, broker = torture.replay(log), torture.broker(brokers)
    torture.say(f"{log.name}: {what}")
    copies = min(3, brokers)
    found, _ = await through_kafka(
        log, wanted, broker.bootstrap, workers, disturb, broker, copies, waiting=waiting, naming=naming
    )
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
    "truth": _truth, "batches": _batches, "replay": _replay, "workers": _workers, "kill": _kill, "names": _names,
    "churn": _churn, "broker": _broker, "away": _away, "attacks": _attacks, "scale": _scale, "latency": _latency,
}  # fmt: skip
WITHOUT_KAFKA = ("truth", "batches", "replay")
