"""From the append of the message that closed a tick to the append of the alert about it, by the broker's clock."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.generate import BEGIN
from schemas.event_codec import EventMessage, decode, encode
from schemas.topics import EVENTS
from stream.connection import client_arguments
from tests.torture.attacks import Attack, injected, pod
from tests.torture.fleet import Fleet, fleet
from tests.torture.kafka_log import KafkaLog, kafka_log
from tests.torture.load import Load, Source
from tests.torture.rows import attempts

SHARES = (0.1, 0.5, 0.8)
_NODES, _FULL_ROWS = 200, 2000
_WARM_S = 10  # s of event time before the first attack
_FLOOD_EVERY_S, _FLOOD_ROWS = 2, 1500
_PATIENCE_S = 60.0
_AS_SHIPPED: dict[str, str] = {}  # no setting of the worker differs: snapshots take time from what waits


async def maximum(bootstrap: str, seconds: int, seed: int) -> int:
    """Measure how many flows a second one worker takes from a backlog that is made beside it."""
    load, loop = Load(_NODES, _FULL_ROWS), asyncio.get_running_loop()
    source = Source(load, seed)
    async with kafka_log(bootstrap) as topics:
        with tempfile.TemporaryDirectory(prefix="sluicegate-torture-") as folder:
            await _send_second(topics, source.second(0))
            async with fleet(bootstrap, topics.kafka.prefix, Path(folder), 1, 1, _AS_SHIPPED) as made:
                flows = load.flows_per_second * seconds
                sending = asyncio.create_task(_all(topics, source, seconds))
                try:
                    worker = made.workers[0]
                    await made.until(worker, lambda s: s.flows >= flows // 4, 300)
                    begun = loop.time()
                    fed = await made.until(worker, lambda s: s.flows >= flows, 600)
                finally:
                    sending.cancel()
                    with suppress(asyncio.CancelledError):
                        await sending
                if not fed:
                    raise RuntimeError(f"the worker did not take {flows:,} flows: {made.reasons[-1:]}")
                return round(flows * 3 / 4 / (loop.time() - begun))


async def _all(topics: KafkaLog, source: Source, seconds: int) -> None:
    for second in range(1, seconds):
        await _send_second(topics, source.second(second))


async def _send_second(topics: KafkaLog, messages: Iterator[EventMessage]) -> None:
    await topics.send(messages)


async def at_load(bootstrap: str, flows: int, seconds: int, seed: int, *, spread: bool) -> dict[str, Any]:
    """Measure at a load, in real time, with a new scanner every second and a new flooded victim every other.

    Args:
        bootstrap: the broker.
        flows: flow rows a second.
        seconds: how long.
        seed: of the traffic.
        spread: messages come evenly over the second; else all within its first 100 ms, as aligned exporters send.
    """
    load = Load(_NODES, max(1, flows // _NODES))
    source, attacks = Source(load, seed), _attacks(seconds)

    def stream() -> Iterator[EventMessage]:
        for second in range(seconds):
            yield from source.second(second)
        yield from source.end(seconds)

    messages = injected(stream(), attacks, seed)
    async with kafka_log(bootstrap) as topics:
        with tempfile.TemporaryDirectory(prefix="sluicegate-torture-") as folder:
            await topics.send(next(messages) for _ in range(_NODES))
            async with fleet(bootstrap, topics.kafka.prefix, Path(folder), 1, 1, _AS_SHIPPED) as made:
                await made.until(made.workers[0], lambda s: s.flows > 0, _PATIENCE_S)
                following = asyncio.create_task(topics.follow())
                try:
                    behind = await _paced(topics, messages, 1.0 if spread else 0.1)
                    await _heard(topics, made, BEGIN + seconds)
                finally:
                    following.cancel()
                    with suppress(asyncio.CancelledError):
                        await following
        delays = _delays(topics, await _appended(topics))
    told = {stage: _quantiles(values) for stage, values in delays.items()}
    return {"flows_per_second": load.flows_per_second, "spread": spread, "sender_behind_s": round(behind, 2), **told}


def _attacks(seconds: int) -> list[Attack]:
    def scanned(second: int) -> Attack:
        node, host = second % _NODES % 50, 100 + second // 50

        def rows(cut: int, _: int, dice: np.random.Generator) -> Any:
            return attempts(cut, np.full(30, pod(node, host)), pod(node + 1, host), 2000 + np.arange(30), dice)

        return Attack("scan", "port_scan", node, second, 1, "flow", rows)

    def flooded(second: int) -> Attack:
        node = second % 50

        def rows(cut: int, _: int, dice: np.random.Generator) -> Any:
            src = dice.integers(11 << 24, 223 << 24, _FLOOD_ROWS).astype(np.uint32)
            return attempts(cut, src, pod(node, 160 + second // 50), 80, dice)

        return Attack("syn flood", "syn_flood", node, second, 1, "flow", rows)

    scans = [scanned(second) for second in range(_WARM_S, seconds)]
    return scans + [flooded(second) for second in range(_WARM_S, seconds, _FLOOD_EVERY_S)]


async def _paced(topics: KafkaLog, messages: Iterator[EventMessage], within: float) -> float:
    """Send each second in real time, its messages over the first `within` seconds of it; returns the largest delay."""
    loop = asyncio.get_running_loop()
    begun, behind = loop.time(), 0.0
    for number, values in enumerate(_by_second(messages)):
        steps = max(1, round(within * 20))
        share = -(-len(values) // steps)
        for step in range(steps):
            due = begun + number + within * step / steps
            behind = max(behind, loop.time() - due)
            await asyncio.sleep(max(0.0, due - loop.time()))
            await topics.send_values(iter(values[step * share : (step + 1) * share]))
    return behind


def _by_second(messages: Iterator[EventMessage]) -> Iterator[list[tuple[str, bytes]]]:
    held: list[tuple[str, bytes]] = []
    cut = 0
    for message in messages:
        if message.header.cut != cut and held:
            yield held
            held = []
        cut = message.header.cut
        held.append((f"{message.header.cluster}/{message.header.node}", encode(message)))
    yield held


async def _heard(topics: KafkaLog, made: Fleet, tick: int) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE_S
    while not topics.heard.passed(tick):
        if loop.time() > deadline:
            raise RuntimeError(f"the worker did not come to the end of the log: {made.reasons[-1:]}")
        await asyncio.sleep(0.1)


async def _appended(topics: KafkaLog) -> dict[tuple[str, int], int]:
    """Return the append time (ms) of the last message of each (node, cut); of all nodes together under node ""."""
    consumer = AIOKafkaConsumer(**client_arguments(topics.kafka, "torture-events"), enable_auto_commit=False,
                                auto_offset_reset="earliest", max_partition_fetch_bytes=5 << 20)  # fmt: skip
    await consumer.start()
    times: dict[tuple[str, int], int] = {}
    try:
        name = EVENTS.name(topics.kafka.prefix)
        places = [TopicPartition(name, p) for p in range(topics.topics.event_partitions)]
        consumer.assign(places)
        left = sum((await consumer.end_offsets(places)).values())
        while left:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=500)).values():
                left -= len(records)
                for record in records:
                    header = decode(record.value).header
                    for key in ((header.node, header.cut), ("", header.cut)):
                        times[key] = max(times.get(key, 0), record.timestamp)
    finally:
        await consumer.stop()
    return times


def _delays(topics: KafkaLog, appended: dict[tuple[str, int], int]) -> dict[str, list[int]]:
    """Return the delays (ms) of open alerts: of stage 1 from its node's message, of stage 2 from all nodes' last."""
    found: dict[str, list[int]] = {"stage_one": [], "stage_two": []}
    for at, value in topics.heard.alerts:
        word = orjson.loads(value)
        if word["status"] == "open" and (word["node"], word["tick"]) in appended:
            delay = at - appended[word["node"], word["tick"]]
            found["stage_one" if word["node"] else "stage_two"].append(delay)
    return found


def _quantiles(delays: list[int]) -> dict[str, Any]:
    if not delays:
        return {"alerts": 0}
    ordered = np.sort(np.array(delays))
    p50, p99 = (int(np.quantile(ordered, q, method="higher")) for q in (0.5, 0.99))
    return {"alerts": len(delays), "p50_ms": p50, "p99_ms": p99, "worst_ms": int(ordered[-1])}
