"""A cluster of a thousand nodes through real Kafka, as fast as two workers go, with the generator beside them."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.worker_process import Sample, WorkerEnded
from schemas.topics import EVENTS, ROLLUPS
from sluicegate.local_broker import LocalBroker
from stream.connection import client_arguments
from tests.torture.fleet import Fleet, fleet
from tests.torture.kafka_log import KafkaLog, kafka_log
from tests.torture.load import Load

LOAD = Load(nodes=1000, rows=400)
WORKERS = 2
# The generator stays this many messages (about 120 kB each) before the workers; retention keeps three times that.
_AHEAD = 12_000
_RETAINED_BYTES = 1 << 30  # a partition's; four partitions: 4 GiB before compression counts
_SEGMENT_BYTES = 64 << 20
_LOOK_S = 2.0
_STUCK_S = 180.0
ROLLUP_LIMIT, DISK_LIMIT_GB, GROWTH_LIMIT = 0.20, 10.0, 1.10


@dataclass
class Seen:
    """What was seen at one moment, over all workers."""

    at: float
    flows: int
    cpu: float
    busy: dict[str, float]
    memory: list[int]
    disk: int


async def run(broker: LocalBroker, minutes: float, seed: int, load: Load = LOAD) -> dict[str, Any]:
    """Run so many minutes of event time; returns figures, and `wrong` in words."""
    async with kafka_log(broker.bootstrap) as topics:
        bounds = {"retention.bytes": str(_RETAINED_BYTES), "segment.bytes": str(_SEGMENT_BYTES)}
        for spec in (EVENTS, ROLLUPS):
            await topics.set_topic(spec.word, bounds)
        with tempfile.TemporaryDirectory(prefix="sluicegate-torture-") as folder:
            sending = await _sender(topics, load, round(minutes * 60), seed)
            counting = asyncio.create_task(_count(topics))
            try:
                async with fleet(broker.bootstrap, topics.kafka.prefix, Path(folder), 1, WORKERS) as made:
                    seen = await _watched(made, broker, sending, load.flows_per_second * round(minutes * 60))
            finally:
                if sending.returncode is None:
                    sending.kill()
                said, _ = await sending.communicate()
                counting.cancel()
                with suppress(asyncio.CancelledError):
                    await counting
        rollups = topics.sent.octets
    messages, octets = (int(word) for word in said.split()) if said.strip() else (0, 0)
    return _figures(seen, messages, octets, rollups, load, made)


async def _sender(topics: KafkaLog, load: Load, seconds: int, seed: int) -> asyncio.subprocess.Process:
    numbers = (load.nodes, load.rows, seconds, seed, _AHEAD)
    command = [sys.executable, "-m", "tests.torture.load", topics.kafka.bootstrap, topics.kafka.prefix]
    return await asyncio.create_subprocess_exec(
        *command, *map(str, numbers), cwd=Path(__file__).parents[2], stdout=asyncio.subprocess.PIPE
    )


async def _count(topics: KafkaLog) -> None:
    """Sum the bytes of the rollups while they come, until cancelled; retention removes them behind us."""
    consumer = AIOKafkaConsumer(**client_arguments(topics.kafka, "torture-rollups"), enable_auto_commit=False,
                                auto_offset_reset="earliest")  # fmt: skip
    await consumer.start()
    try:
        name = ROLLUPS.name(topics.kafka.prefix)
        consumer.assign([TopicPartition(name, p) for p in range(topics.topics.rollup_partitions)])
        while True:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                topics.sent.octets += sum(len(record.value) for record in records)
    finally:
        await consumer.stop()


async def _watched(made: Fleet, broker: LocalBroker, sending: asyncio.subprocess.Process, flows: int) -> list[Seen]:
    """Look until all flows are fed, or nothing moves any more."""
    loop = asyncio.get_running_loop()
    seen: list[Seen] = []
    news = loop.time()
    while loop.time() - news < _STUCK_S and (not seen or seen[-1].flows < flows) and sending.returncode in (None, 0):
        await asyncio.sleep(_LOOK_S)
        samples = [s for worker in made.workers if (s := await _sampled(worker.sample())) is not None]
        if len(samples) < WORKERS:
            continue
        busy: dict[str, float] = {}
        for sample in samples:
            for agent, seconds in sample.busy.items():
                busy[agent] = busy.get(agent, 0.0) + seconds
        disk = sum(f.stat().st_size for f in broker.storage.rglob("*") if f.is_file() and f.suffix == ".log")
        now = Seen(loop.time(), sum(s.flows for s in samples), sum(s.cpu for s in samples), busy,
                   [worker.memory() for worker in made.workers], disk)  # fmt: skip
        if not seen or now.flows > seen[-1].flows:
            news = loop.time()
        seen.append(now)
    return seen


async def _sampled(sample: Any) -> Sample | None:
    try:
        found: Sample | None = await sample
    except WorkerEnded:
        return None
    return found


def _figures(seen: list[Seen], messages: int, octets: int, rollups: int, load: Load, made: Fleet) -> dict[str, Any]:
    working = [one for one in seen if one.flows]
    if len(working) < 3 or not octets:
        return {"what": "a thousand nodes", "wrong": [f"it made no progress: {made.reasons[-1:] or 'no reason said'}"]}
    first, last = working[0], working[-1]
    wall, cpu = last.at - first.at, last.cpu - first.cpu
    busy = {agent: round(last.busy[agent] - first.busy.get(agent, 0.0), 1) for agent in sorted(last.busy)}
    share = rollups / octets
    memory = [max(one.memory) >> 20 for one in working]
    quarter = max(1, len(memory) // 4)
    growth = _level(memory[-quarter:]) / max(1.0, _level(memory[quarter : 2 * quarter]))
    disk = max(one.disk for one in seen) / 1e9
    checks = [
        (share < ROLLUP_LIMIT, f"rollups are {share:.1%} of the event bytes, limit {ROLLUP_LIMIT:.0%}"),
        (growth < GROWTH_LIMIT, f"memory of the last quarter is {growth:.2f} times that of the second"),
        (disk <= DISK_LIMIT_GB, f"{disk:.1f} GB on disk, limit {DISK_LIMIT_GB:.0f}"),
        (not made.restarts, f"{made.restarts} workers ended by themselves: {made.reasons[-1:]}"),
        (last.flows >= (messages - load.nodes) * load.rows, f"only {last.flows:,} flows were fed"),
    ]
    return {
        "what": f"{load.nodes:,} nodes x {load.rows} flows/s", "messages": messages, "flows": last.flows,
        "seconds": round(wall, 1), "flows_per_second": round((last.flows - first.flows) / max(wall, 1e-9)),
        "flows_per_cpu_second": round((last.flows - first.flows) / max(cpu, 1e-9)), "event_bytes": octets,
        "rollup_bytes": rollups, "rollup_share": round(share, 4), "busy_seconds": busy,
        "stage_two_share": round(busy.get("correlate", 0.0) / max(sum(busy.values()), 1e-9), 3),
        "worker_cpu_seconds": round(cpu, 1), "memory_mb": memory[:: max(1, len(memory) // 60)],
        "memory_growth": round(growth, 3), "disk_gb": round(disk, 2), "restarts": made.restarts,
        "wrong": [text for good, text in checks if not good],
    }  # fmt: skip


def _level(values: list[int]) -> float:
    return sum(values) / len(values)
