"""What a checkpoint costs and how long a restore takes, against the number of keys.

The state is a table as the engine lays one out: arrays with one row per key, in slot order, so that a key that
is not touched leaves its bytes alone. Written and read are pages as the worker writes and reads them; without a
broker, what remains is the time in which the engine stands still. With one, a host with the real outbox and
state store takes its checkpoints and another restores them.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.stopwatch import timed
from detectors.snapshot import Section
from sluicegate.demo_broker import delete_topics
from sluicegate.local_broker import BrokerError, local_broker, missing_tools
from stream.connection import ConnectionProblem
from stream.deadletters import DeadLetterLimit
from stream.host import PartitionHost, Takeover
from stream.outbox import Outbox, SendFailed
from stream.pages import PAGE, Assembly, Chain, image_of
from stream.records import Incoming, Outgoing
from stream.settings import DeadLetterSettings, KafkaSettings, TopicSettings, WorkerSettings
from stream.state_store import StateStore
from stream.telemetry import make_telemetry
from stream.topics_admin import create_topics, wanted_topics

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "kafka"
SIZES = (1_000, 10_000, 100_000, 1_000_000)
TOUCHED = 0.01
PAGES = (PAGE, 16 << 10, 64 << 10)
_SUMS, _BUCKETS = 4, 12
# Bytes of a state of a million keys are above the default limit of a worker.
_MOST = 4 << 30

Say = Callable[[str], None]


class Table:
    """Windows of a number of keys: 464 bytes a key."""

    def __init__(self, keys: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._rng = rng
        self.arrays: dict[str, npt.NDArray[Any]] = {
            "keys": rng.integers(0, 1 << 63, keys, np.uint64),
            "column.src": rng.integers(0, 256, (keys, 16), np.uint8),
            "first": np.full(keys, 1_700_000_000),
            "last": np.full(keys, 1_700_000_000),
            "clock": np.full(keys, 70_000_000),
            "running": rng.integers(0, 1000, (keys, _SUMS)),
            "rings": rng.integers(0, 100, (keys, _SUMS, _BUCKETS)),
        }

    def touch(self, share: float) -> None:
        """A tick: some keys anywhere in the table get new sums."""
        keys = len(self.arrays["keys"])
        slots = self._rng.choice(keys, max(1, int(keys * share)), replace=False)
        self.arrays["last"][slots] += 1
        self.arrays["running"][slots] += 1
        self.arrays["rings"][slots, :, 3] += 1

    def snapshot(self) -> dict[str, Section]:
        """See `stream.roles.Stage`."""
        return {"table": Section(1, self.arrays)}

    def restore(self, sections: Mapping[str, Section]) -> list[str]:
        """See `stream.roles.Stage`."""
        self.arrays = sections["table"].state
        return []


def run(
    sizes: Sequence[int] = SIZES, seed: int = 1, *, kafka: bool = True, pages: Sequence[int] = PAGES,
    say: Say = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Measure every size, in memory and on the broker named by SLUICEGATE_KAFKA, else on one of our own.

    Args:
        sizes: numbers of keys.
        seed: of what is in the table and of what is touched.
        kafka: false leaves the broker out.
        pages: bytes of a page to compare; the first is the one in use.
        say: told before each step.

    Returns:
        Figures by number of keys; those of the broker below ``kafka``, or why there are none.
    """
    found: dict[str, Any] = {}
    for keys in sizes:
        say(f"checkpoints of {keys:,} keys")
        found[str(keys)] = {"pages": {str(page): _in_memory(keys, seed, page) for page in pages}}
    if not kafka:
        return found
    named = os.environ.get("SLUICEGATE_KAFKA")
    try:
        if named:
            on_broker = asyncio.run(_all(named, sizes, seed, say))
        elif problems := missing_tools(CACHE):
            return {**found, "skipped_kafka": "; ".join(problems)}
        else:
            with local_broker(CACHE, progress=say) as broker:
                on_broker = asyncio.run(_all(broker.bootstrap, sizes, seed, say))
    except (BrokerError, ConnectionProblem, SendFailed) as error:
        return {"failed": str(error)}
    for size, figures in on_broker.items():
        found[size]["kafka"] = figures
    return found


def _in_memory(keys: int, seed: int, page: int) -> dict[str, Any]:
    table, chain = Table(keys, seed), Chain(longest=64, page=page)
    chunks: dict[int, bytes] = {}
    offset, index = 0, b""

    def write() -> int:
        nonlocal offset, index
        offset += 1
        image = image_of(table.snapshot())
        written = {place.number: value for place, value in chain.write(image, offset)}
        index = b"".join(value for _, value in chain.index(image, offset))
        chunks.update(written)
        return sum(map(len, written.values())) + len(index)

    def read() -> dict[str, Section]:
        assembly = Assembly(index, page, _MOST)
        for number in chain.chunks:
            assembly.add(number, chunks[number])
        return assembly.sections()

    full, full_bytes = timed(write)
    table.touch(TOUCHED)
    part, part_bytes = timed(write)
    idle, idle_bytes = timed(write)
    restore, _ = timed(read)
    return {
        "state_bytes": image_of(table.snapshot()).size,
        "full": {"seconds": full.wall, "cpu_seconds": full.cpu, "bytes": full_bytes},
        "touched": {"share": TOUCHED, "seconds": part.wall, "cpu_seconds": part.cpu, "bytes": part_bytes},
        "untouched": {"seconds": idle.wall, "cpu_seconds": idle.cpu, "bytes": idle_bytes},
        "restore": {"seconds": restore.wall, "cpu_seconds": restore.cpu},
    }


class _Role:
    """An agent whose messages each touch a share of its table."""

    name, topic, stateful = "bench", "events.v1", True

    def __init__(self, keys: int, seed: int) -> None:
        self._keys, self._seed = keys, seed

    def open(self, partition: int) -> Table:
        return Table(self._keys, self._seed)

    def read(self, record: Incoming) -> None:
        return None

    async def process(self, stage: Table, words: Sequence[None], partition: int) -> Sequence[Outgoing]:
        stage.touch(TOUCHED)
        return ()

    def announce(self, stage: Table, *, quiet: bool) -> Sequence[Outgoing]:
        return ()


class _Acker:
    def current(self, token: int) -> bool:
        return True

    def ack(self, token: int) -> None:
        return None

    async def commit(self) -> tuple[int]:
        return (0,)

    async def first_at(self, _partition: int, offset: int) -> int:
        return offset


async def _all(bootstrap: str, sizes: Sequence[int], seed: int, say: Say) -> dict[str, Any]:
    found = {}
    for keys in sizes:
        say(f"checkpoints of {keys:,} keys through Kafka")
        kafka = KafkaSettings(bootstrap=bootstrap, prefix=f"bench-{uuid.uuid4().hex[:8]}")
        await create_topics(kafka, TopicSettings())
        try:
            found[str(keys)] = await _through_kafka(kafka, keys, seed)
        finally:
            await delete_topics(kafka, [topic.name for topic in wanted_topics(kafka.prefix, TopicSettings())])
    return found


async def _through_kafka(kafka: KafkaSettings, keys: int, seed: int) -> dict[str, Any]:
    worker = WorkerSettings(checkpoint_bytes=_MOST)
    outbox = await Outbox(kafka, worker, make_telemetry()).start()
    states = StateStore(kafka, TopicSettings().state_partitions, outbox, worker)
    try:
        first, telemetry = await _host(outbox, states, worker, keys, seed)
        times = []
        for offset in range(4):
            await first.handle([(Incoming("", 0, offset, b"", b"", (), 0.0), offset)])
            begin = time.perf_counter()
            await first.revoked()
            times.append(time.perf_counter() - begin)
            await first.assigned({0: Takeover(offset + 1, 0, 1000)})
        begin = time.perf_counter()
        _, restoring = await _host(outbox, states, worker, keys, seed, committed=4)
        took = time.perf_counter() - begin
    finally:
        await outbox.stop()
    paused = telemetry.registry.get_sample_value("sluicegate_snapshot_seconds_sum", {"agent": "bench"})
    return {
        "full_seconds": times[0], "touched_seconds": min(times[1:]), "paused_seconds_of_all": paused,
        "checkpoints": len(times), "restore_seconds": took,
        "restored": restoring.registry.get_sample_value(
            "sluicegate_restores_total", {"agent": "bench", "outcome": "snapshot"}
        ),
    }  # fmt: skip


async def _host(
    outbox: Outbox, states: StateStore, worker: WorkerSettings, keys: int, seed: int, committed: int | None = None
) -> tuple[PartitionHost, Any]:
    telemetry = make_telemetry()
    limit = DeadLetterLimit("bench", DeadLetterSettings(), time.monotonic)
    host = PartitionHost(_Role(keys, seed), 4, outbox, states, _Acker(), limit, worker, telemetry)
    await host.assigned({0: Takeover(committed, 0, 1000)})
    return host, telemetry
