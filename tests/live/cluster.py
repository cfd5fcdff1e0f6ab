"""A live cluster: lab nodes with exporters, a worker, and topics of their own on a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord

from schemas.alert import Alert, Watermark, decode_alert_record
from schemas.event_codec import EventMessage, decode
from schemas.inventory import InventoryObject
from schemas.topics import ALERTS, EVENTS, INVENTORY
from sluicegate.demo_broker import delete_topics
from sluicegate.demo_processes import DemoProcess
from stream.settings import KafkaSettings, TopicSettings
from stream.topics_admin import create_topics, wanted_topics
from tests.lab.lab import Lab
from tests.lab.tunnel import Tunnel

EXPORT = str(Path(sys.executable).with_name("sluicegate"))
_TOPICS = TopicSettings(event_partitions=4, rollup_partitions=2, state_partitions=2)
_PATIENCE_S = 90.0


async def until(condition: Callable[[], bool], what: str, seconds: float = _PATIENCE_S) -> None:
    """Poll until `condition` holds; TimeoutError names `what`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            problem = f"waited {seconds:.0f} s for {what}"
            raise TimeoutError(problem)
        await asyncio.sleep(0.05)


@dataclass
class Heard:
    """What the topics said so far.

    Attributes:
        events: messages and their append times (ms since epoch), by node, in their order.
        alerts: alerts and their append times, in order.
        ticks: last tick of each sender of alerts.
    """

    events: dict[str, list[tuple[EventMessage, int]]] = field(default_factory=dict)
    alerts: list[tuple[Alert, int]] = field(default_factory=list)
    ticks: dict[str, int] = field(default_factory=dict)
    senders: int = 0

    def take(self, record: ConsumerRecord) -> None:
        """Take one record of events.v1 or alerts.v1."""
        if record.topic.endswith(EVENTS.word):
            message = decode(record.value)
            self.events.setdefault(message.header.node, []).append((message, record.timestamp))
            return
        word = decode_alert_record(record.value)
        if isinstance(word, Watermark):
            self.ticks[word.sender], self.senders = word.tick, word.senders
        else:
            self.alerts.append((word, record.timestamp))

    def judged(self, cut: int) -> bool:
        """Tell whether the worker has said all that there is to say up to a cut."""
        return 0 < self.senders <= sum(tick >= cut for tick in self.ticks.values())

    def messages(self, node: str) -> list[EventMessage]:
        """The node's messages, repeats left out."""
        seen: dict[tuple[str, int], EventMessage] = {}
        for message, _ in self.events.get(node, ()):
            seen.setdefault((message.header.boot, message.header.sequence), message)
        return list(seen.values())

    def ended(self, node: str, boots: int = 1) -> bool:
        """Tell whether so many exporters of the node have said that they ended."""
        return sum(message.header.final for message in self.messages(node)) >= boots


class NodeExporter:
    """``sluicegate export`` on a lab's node, to Kafka; its log is a file. Restarted by ``start``."""

    def __init__(self, lab: Lab, node: str, settings: Mapping[str, Any], folder: Path, name: str) -> None:
        self._lab, self.node, self.name = lab, node, name
        self._config = folder / f"{name}.json"
        self._config.write_text(json.dumps(settings))
        self._log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has said."""
        return self._log.read_text()

    def start(self, *options: str) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self.process = self._lab.start(
                self.node, ["nice", "-n", "-15", EXPORT, "--config", str(self._config), "export", "--to", "kafka",
                            "--node", self.name, "--cluster", "lab", *options],
                stderr=log.fileno(),
            )  # fmt: skip

    async def stop(self) -> None:
        """End it in order."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            code = await asyncio.to_thread(self.process.wait, _PATIENCE_S)
            if code:
                problem = f"the exporter of {self.name} ended with {code}: {self.log[-800:]}"
                raise RuntimeError(problem)

    def kill(self) -> None:
        """End it without a word."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@dataclass
class LiveCluster:
    """What a run holds in its hands; use ``live_cluster``."""

    lab: Lab
    bootstrap: str
    prefix: str
    folder: Path
    heard: Heard
    exporters: dict[str, NodeExporter]

    async def listening(self, names: Iterable[str] | None = None) -> None:
        """Wait until exporters have sent a second that they heard whole."""
        for name in names or self.exporters:
            before = len(self.heard.events.get(name, ()))
            exporter = self.exporters[name]

            def heard(name: str = name, before: int = before, exporter: NodeExporter = exporter) -> bool:
                process = exporter.process
                if process is not None and process.poll() is not None:
                    problem = f"the exporter of {name} ended: {exporter.log[-800:]}"
                    raise RuntimeError(problem)
                return len(self.heard.events.get(name, ())) >= before + 2

            await until(heard, f"the exporter of {name} to listen")


async def _follow(consumer: AIOKafkaConsumer, heard: Heard) -> None:
    while True:
        for batch in (await consumer.getmany(timeout_ms=100)).values():
            for record in batch:
                heard.take(record)


@asynccontextmanager
async def live_cluster(
    lab: Lab, nodes: Mapping[str, str], bootstrap: str, folder: Path, exporter: Mapping[str, Any],
    objects: Iterable[InventoryObject], *, worker: bool = True, own: Mapping[str, Mapping[str, Any]] | None = None,
) -> AsyncIterator[LiveCluster]:  # fmt: skip
    """Bring up topics, identities, a worker and the nodes' exporters (not started yet); take all down at the end.

    Args:
        lab: the running lab.
        nodes: namespace of each node, by the node's name.
        bootstrap: address of the broker, on loopback.
        folder: for settings and logs.
        exporter: settings of the exporters.
        objects: what inventory.v1 says from the beginning.
        worker: run one.
        own: more settings of some nodes' exporters, by the node's name.
    """
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=f"live{uuid.uuid4().hex[:10]}")
    await create_topics(kafka, _TOPICS)
    stream = {
        "kafka": {"bootstrap": bootstrap, "prefix": kafka.prefix},
        "topics": {"event_partitions": 4, "rollup_partitions": 2, "state_partitions": 2},
    }
    async with AsyncExitStack() as stack:
        stack.push_async_callback(delete_topics, kafka, [topic.name for topic in wanted_topics(kafka.prefix, _TOPICS)])
        await _identify(kafka, objects)
        heard = Heard()
        await _listen(kafka, heard, stack)
        if worker:
            config = folder / "worker.json"
            config.write_text(json.dumps({"stream": stream}))
            process = DemoProcess("worker", ["--config", str(config), "worker"], os.environ, folder)
            stack.callback(process.stop)
            await process.ready()
        port = int(bootstrap.rsplit(":", 1)[1])
        for space in set(nodes.values()):
            stack.enter_context(Tunnel(lab.space(space), port))
        exporters = {}
        for name, space in nodes.items():
            spool = {"live": {"spool": str(folder / f"spool-{name}")}}
            settings = {**exporter, **spool, **(own or {}).get(name, {})}
            exporters[name] = NodeExporter(lab, space, {"exporter": settings, "stream": stream}, folder, name)
        for each in exporters.values():
            stack.callback(each.kill)
        yield LiveCluster(lab, bootstrap, kafka.prefix, folder, heard, exporters)


async def _identify(kafka: KafkaSettings, objects: Iterable[InventoryObject]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    await producer.start()
    try:
        for item in objects:
            await producer.send(INVENTORY.name(kafka.prefix), item.encode(), key=item.uid.encode())
    finally:
        await producer.stop()


async def _listen(kafka: KafkaSettings, heard: Heard, stack: AsyncExitStack) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, enable_auto_commit=False)
    await consumer.start()
    stack.push_async_callback(consumer.stop)
    places = [TopicPartition(EVENTS.name(kafka.prefix), number) for number in range(_TOPICS.event_partitions)]
    places.append(TopicPartition(ALERTS.name(kafka.prefix), 0))
    consumer.assign(places)
    await consumer.seek_to_beginning(*places)
    following = asyncio.create_task(_follow(consumer, heard))

    async def end() -> None:
        following.cancel()
        await asyncio.wait({following})

    stack.push_async_callback(end)
