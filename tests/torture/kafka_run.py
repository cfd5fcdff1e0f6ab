"""One log through real workers on a real Kafka while something goes wrong, and what came of it."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.event_codec import EventMessage
from sluicegate.local_broker import LocalBroker
from tests.torture.answer import Answer, Replayed, differences, replayed
from tests.torture.fleet import Fleet, fleet
from tests.torture.inputs import Log
from tests.torture.kafka_log import KafkaLog, kafka_log
from tests.torture.names import addresses, as_appended, tell

# Longer than any rebalance, restore or restart: without news for so long nothing will come any more.
_PATIENCE_S = 60.0
_QUIET_S = 2.0
_LOOK_S = 0.1
_SHOWN = 5


@dataclass
class Run:
    """What a disturbance holds in its hands: the log to send on, the workers, the brokers."""

    log: KafkaLog
    fleet: Fleet
    broker: LocalBroker | None
    rest: Iterator[EventMessage]
    messages: int  # in `rest`
    events: int = 0  # times that the disturbance disturbed

    async def send(self, count: int | None = None) -> None:
        """Send the next messages, or all that are left."""
        await self.log.send(self.rest if count is None else itertools.islice(self.rest, count))

    async def send_within(self, seconds: float) -> None:
        """Send all that is left, evenly over so many seconds."""
        loop = asyncio.get_running_loop()
        begun, steps = loop.time(), max(1, round(seconds * 4))
        share = -(-self.messages // steps)
        for step in range(1, steps + 1):
            await self.send(share)
            await asyncio.sleep(max(0.0, begun + seconds * step / steps - loop.time()))
        await self.send()


Disturbance = Callable[[Run], Awaitable[None]]


async def undisturbed(run: Run) -> None:
    """Everything is sent at once and nothing goes wrong."""
    await run.send()


async def through_kafka(
    log: Log, wanted: Replayed, bootstrap: str, workers: int, disturbance: Disturbance = undisturbed,
    broker: LocalBroker | None = None, replication: int = 1, *, waiting: bool = False, naming: bool = False,
) -> tuple[dict[str, Any], Answer]:  # fmt: skip
    """Run a log through workers and compare the answer with the one of a replay in this process.

    Args:
        log: what is sent; one message of each node before the workers start, unless they are `waiting`.
        wanted: the replay.
        bootstrap: the brokers.
        workers: how many at the start.
        disturbance: sends the rest of the log and disturbs meanwhile.
        broker: for disturbances of the brokers themselves.
        replication: copies of each partition.
        naming: addresses of the log get other names all the time; the answer is compared with a replay of events and
            names as they came to lie on the broker.
        waiting: nothing is sent before the workers have taken over all partitions, which are empty then.

    Returns:
        The figures of the run (`differences` is how many, `first_differences` says some in words), and the answer.
    """
    begun = time.perf_counter()
    messages = log.messages()
    async with kafka_log(bootstrap, replication) as topics:
        sent = 0 if waiting else log.nodes
        await topics.send(itertools.islice(messages, sent))
        with tempfile.TemporaryDirectory(prefix="sluicegate-torture-") as folder:
            async with fleet(bootstrap, topics.kafka.prefix, Path(folder), replication, workers) as made:
                following = asyncio.create_task(topics.follow())
                telling = asyncio.create_task(tell(addresses(wanted.answer) if naming else [], topics.tell))
                try:
                    if waiting:
                        await made.ready()
                    run = Run(topics, made, broker, messages, wanted.messages - sent)
                    await disturbance(run)
                    complete = await _settled(topics, wanted, whole=not naming)
                    memory = max((worker.peak_memory() for worker in made.workers), default=0)
                    await made.stop()
                    await _drained(topics)
                finally:
                    for task in (following, telling):
                        task.cancel()
                        with suppress(asyncio.CancelledError):
                            await task
        found = topics.heard.answer
        unread, dead = await topics.unread(), await topics.dead_letters()
        if naming:
            events, names = await as_appended(topics.kafka, topics.topics)
            wanted = replayed(events, inventory=names)
    lines = differences(wanted.answer, found)
    figures = {
        "messages": topics.sent.messages, "event_bytes": topics.sent.octets, "workers": workers,
        "seconds": round(time.perf_counter() - begun, 1), "alerts": len(found.alerts),
        "incidents": len(found.incidents), "resent": sum(found.resent.values()), "disturbed": run.events,
        "restarts": made.restarts, "restart_reasons": sorted(set(made.reasons))[:_SHOWN],
        "peak_memory_mb": memory >> 20, "complete": complete, "unread": unread, "dead_letters": dead,
        "differences": len(lines), "first_differences": lines[:_SHOWN],
    }  # fmt: skip
    return figures, found


async def _settled(topics: KafkaLog, wanted: Replayed, *, whole: bool = True) -> bool:
    """Wait until all has been said that should be; False when nothing came or was read for long and some is missing.

    What must be there is known only when the answer is to be `whole`; else silence ends it.
    """
    loop = asyncio.get_running_loop()
    news, records = loop.time(), -1
    unread: dict[str, int] = {}
    while not (topics.heard.passed(wanted.last_tick) and (not whole or topics.heard.answer.covers(wanted.answer))):
        if topics.heard.records != records:
            news, records = loop.time(), topics.heard.records
        elif loop.time() - news > _PATIENCE_S:
            before, unread = unread, await topics.unread()
            if unread == before:
                return False
            news = loop.time()
        await asyncio.sleep(_LOOK_S)
    await _silent(topics)
    return True


async def _silent(topics: KafkaLog) -> None:
    """Wait until nothing has come for a while: what is too much would come now."""
    records = -1
    while records != topics.heard.records:
        records = topics.heard.records
        await asyncio.sleep(_QUIET_S)


async def _drained(topics: KafkaLog) -> None:
    """Wait until all that the workers said before they stopped has been heard."""
    while topics.heard.records < await topics.said():  # noqa: ASYNC110 - the broker tells nobody
        await asyncio.sleep(_LOOK_S)
