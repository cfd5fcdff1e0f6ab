"""The worker through a real Kafka, and beside it what consuming and decoding alone would give.

For each message size: fresh topics, a backlog of generated events, a plain aiokafka loop that reads and
decodes it all, then the real ``sluicegate worker`` on the same topic until stage 1 has taken every event and
stage 2 every rollup, and further until both have committed everything. Its start-up is left out: rates count
from the first sample in which it had taken a tenth of the rows, so that modules are loaded and tables have grown.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from benchmarks.decode import SIZES, read_columns
from benchmarks.generate import Shape, ordinary
from benchmarks.stopwatch import Taken
from benchmarks.worker_process import Sample, WorkerEnded, WorkerProcess
from exporter.delivery import DeliveryError, KafkaDelivery
from schemas.topics import EVENTS, ROLLUPS
from sluicegate.demo_broker import delete_topics
from sluicegate.local_broker import BrokerError, local_broker, missing_tools
from stream.connection import ConnectionProblem, client_arguments
from stream.settings import KafkaSettings, TopicSettings
from stream.topics_admin import TopicMismatch, create_topics, wanted_topics

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "kafka"
# As many as such a worker would serve: at 2,000 rows a second each, 64 nodes send 128,000 rows a second.
_NODES = 64
_DEADLINE_S = 600.0
_POLL_S = 0.1

Say = Callable[[str], None]


class Stuck(Exception):
    """The worker made no end within the deadline."""


def run(
    flows: int = 1_600_000, seed: int = 1, sizes: Sequence[int] = SIZES, say: Say = lambda _: None
) -> dict[str, Any]:
    """Measure each message size on the broker named by SLUICEGATE_KAFKA, else on one of our own.

    Args:
        flows: flow rows of the largest message size; smaller messages get fewer, as what they cost is the message.
        seed: of the traffic.
        sizes: flow rows a message.
        say: told before each step.

    Returns:
        Figures by size; or why there are none, under ``skipped`` (a tool is missing) or ``failed``.
    """
    named = os.environ.get("SLUICEGATE_KAFKA")
    try:
        if named:
            return asyncio.run(_all(named, flows, seed, sizes, say))
        if problems := missing_tools(CACHE):
            return {"skipped": "; ".join(problems)}
        with local_broker(CACHE, progress=say) as broker:
            return asyncio.run(_all(broker.bootstrap, flows, seed, sizes, say))
    except (BrokerError, ConnectionProblem, DeliveryError, Stuck, TopicMismatch, WorkerEnded) as error:
        return {"failed": str(error)}


async def _all(bootstrap: str, flows: int, seed: int, sizes: Sequence[int], say: Say) -> dict[str, Any]:
    found = {}
    for rows in sizes:
        # Half as many rows for a fifth of the size: each size takes a similar time, and enough messages.
        chosen = max(flows // 8, int(flows * (rows / max(sizes)) ** 0.5))
        shape = Shape(_NODES, max(1, chosen // (_NODES * rows)), rows)
        kafka = KafkaSettings(bootstrap=bootstrap, prefix=f"bench-{uuid.uuid4().hex[:8]}")
        try:
            found[str(rows)] = await _size(kafka, shape, seed, say)
        finally:
            await delete_topics(kafka, [topic.name for topic in wanted_topics(kafka.prefix, TopicSettings())])
    return found


async def _size(kafka: KafkaSettings, shape: Shape, seed: int, say: Say) -> dict[str, Any]:
    await create_topics(kafka, TopicSettings())
    events = EVENTS.name(kafka.prefix)
    say(f"producing {shape.flows:,} flow rows, {shape.rows} a message")
    delivery = KafkaDelivery(client_arguments(kafka, "bench"), events)
    await delivery.open()
    for message in ordinary(shape, seed):
        await delivery.send(message)
    await delivery.close(complete=True)
    say("consuming and decoding it, nothing else")
    ceiling = await _consume(kafka, events)
    say("running the worker")
    with tempfile.TemporaryDirectory(prefix="sluicegate-bench-") as folder:
        worker = WorkerProcess(kafka.bootstrap, kafka.prefix, Path(folder))
        try:
            figures = await _follow(worker, kafka, shape)
        finally:
            await asyncio.to_thread(worker.stop)
    consumed = ceiling.rates(shape.flows)
    return {"flows": shape.flows, "messages": shape.nodes * shape.seconds, "consume_decode": consumed, **figures,
            "to_ceiling": round(figures["worker"]["per_cpu_second"] / consumed["per_cpu_second"], 3)}  # fmt: skip


async def _consume(kafka: KafkaSettings, topic: str) -> Taken:
    """Read a whole topic the cheapest way there is in this language, decoding each message."""
    consumer = AIOKafkaConsumer(**client_arguments(kafka, "bench"), enable_auto_commit=False,
                                max_partition_fetch_bytes=5 << 20)  # fmt: skip
    await consumer.start()
    try:
        places = [TopicPartition(topic, p) for p in range(TopicSettings().event_partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        left = sum((await consumer.end_offsets(places)).values())
        cpu, wall = time.process_time(), time.perf_counter()
        while left:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=200)).values():
                for record in records:
                    read_columns(record.value)
                left -= len(records)
        return Taken(time.process_time() - cpu, time.perf_counter() - wall)
    finally:
        await consumer.stop()


async def _follow(worker: WorkerProcess, kafka: KafkaSettings, shape: Shape) -> dict[str, Any]:
    first = await _sampled(worker, lambda s: s.flows >= shape.flows // 10)
    end = await _sampled(worker, lambda s: s.flows >= shape.flows)
    async with _Offsets(kafka) as offsets:
        # Stage 1 has sent its last rollup once everything it took is acknowledged; then their count stands.
        rollups = await offsets.settled(ROLLUPS.name(kafka.prefix))
        done = await _sampled(worker, lambda s: s.messages.get("correlate", 0) >= rollups)
        await offsets.committed(kafka, {"detect": EVENTS.name(kafka.prefix), "correlate": ROLLUPS.name(kafka.prefix)})
    committed = time.monotonic()
    taken = Taken(max(end.cpu - first.cpu, 1e-9), max(end.at - first.at, 1e-9))
    return {
        "worker": taken.rates(shape.flows - first.flows),
        "measured_flows": shape.flows - first.flows,
        "cpu_share": round(taken.cpu / taken.wall, 2),
        "stage_two_later_s": round(max(0.0, done.at - end.at), 2),
        "committed_later_s": round(committed - end.at, 2),
        "rollups": rollups, "alerts": done.alerts, "peak_memory_mb": worker.peak_memory() >> 20,
    }  # fmt: skip


async def _sampled(worker: WorkerProcess, enough: Callable[[Sample], bool]) -> Sample:
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        sample = await worker.sample()
        if sample is not None and enough(sample):
            return sample
        await asyncio.sleep(_POLL_S)
    problem = f"no end within {_DEADLINE_S:.0f} s"
    raise Stuck(problem)


class _Offsets:
    """Reads end offsets and groups' committed offsets."""

    def __init__(self, kafka: KafkaSettings) -> None:
        arguments = client_arguments(kafka, "bench-offsets")
        self._consumer, self._admin = AIOKafkaConsumer(**arguments), AIOKafkaAdminClient(**arguments)

    async def __aenter__(self) -> _Offsets:
        await self._consumer.start()
        await self._admin.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def ends(self, topic: str) -> dict[TopicPartition, int]:
        """Return the end offset of each partition."""
        partitions = (await self._admin.describe_topics([topic]))[0]["partitions"]
        places = [TopicPartition(topic, p["partition"]) for p in partitions]
        return dict(await self._consumer.end_offsets(places))

    async def settled(self, topic: str) -> int:
        """Return the number of records once it has not grown for a second."""
        before = -1
        while (count := sum((await self.ends(topic)).values())) != before:
            before = count
            await asyncio.sleep(1.0)
        return count

    async def committed(self, kafka: KafkaSettings, groups: dict[str, str]) -> None:
        """Wait until each agent's group has committed its topic's end.

        Raises:
            Stuck: the deadline passed.
        """
        deadline = time.monotonic() + _DEADLINE_S
        for agent, topic in groups.items():
            ends = await self.ends(topic)
            while time.monotonic() < deadline:
                found = await self._admin.list_consumer_group_offsets(f"{kafka.prefix}-{agent}")
                if all(not end or (p in found and found[p].offset >= end) for p, end in ends.items()):
                    break
                await asyncio.sleep(_POLL_S)
            else:
                problem = f"{agent} has not committed everything within {_DEADLINE_S:.0f} s"
                raise Stuck(problem)
