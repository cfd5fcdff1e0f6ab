"""Sluicegate as it runs in production, around one lab: exporter on the node, broker, inventory, worker, responder."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from sluicegate.demo_processes import DemoProcess
from stream.settings import KafkaSettings, TopicSettings
from stream.topics_admin import create_topics, wanted_topics
from tests.e2e.enforcement.lab_cluster import LabCluster
from tests.lab import pods
from tests.lab.lab import wait_for

CLUSTER = "lab"
POLICY = Path(__file__).with_name("policy.yaml")
# Seconds that must have arrived before an attack begins: the exporter takes the first two for older flows.
WARM_SECONDS = 4
NETWORKS = ("10.244.0.0/16", "fd00:244::/32", f"{pods.NODE_UPLINK4}/32", f"{pods.NODE_UPLINK6}/128")


class Stack:
    """Every process of the product, on topics of its own; use as a context manager inside a `LabCluster`."""

    def __init__(self, cluster: LabCluster, bootstrap: str, folder: Path, *, policy: Path = POLICY) -> None:
        self._cluster = cluster
        self._folder = folder
        self._policy = policy
        self._kafka = KafkaSettings(bootstrap=bootstrap, prefix=f"t{uuid.uuid4().hex[:12]}")
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as building:
            asyncio.run(create_topics(self._kafka, TopicSettings()))
            config = self._folder / "settings.yaml"
            config.write_text(yaml.safe_dump(self._settings()))
            self._start(building, config)
            wait_for(lambda: len(self.records("events.v1")) >= WARM_SECONDS, "the node's first seconds", 60.0)
            self._closing = building.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def _settings(self) -> dict[str, object]:
        return {
            "stream": {"kafka": {"bootstrap": self._kafka.bootstrap, "prefix": self._kafka.prefix}},
            "exporter": {"packets": {"uplinks": [pods.UPLINK], "cluster_networks": list(NETWORKS)}},
        }

    def _start(self, closing: ExitStack, config: Path) -> None:
        kubeconfig = str(self._cluster.server.kubeconfig)
        common = ["--cluster", CLUSTER, "--log-level", "warning"]
        commands = {
            "inventory": ["inventory", "--kubeconfig", kubeconfig, *common],
            "worker": ["worker", "--policy", str(self._policy), "--log-level", "warning"],
            "responder": ["respond", "--kubeconfig", kubeconfig, *common],
        }
        processes = []
        for name, arguments in commands.items():
            process = DemoProcess(name, ["--config", str(config), *arguments], {}, self._folder)
            closing.callback(process.stop)
            processes.append(process)

        async def ready() -> None:
            await asyncio.gather(*(process.ready() for process in processes))

        asyncio.run(ready())
        command = [sys.executable, "-m", "sluicegate", "--config", str(config), "export", "--to", "kafka",
                   "--node", pods.NODE, "--cluster", CLUSTER]  # fmt: skip
        with (self._folder / "exporter.log").open("wb") as log:
            exporter = self._cluster.lab.start("node", command, stdout=log.fileno(), stderr=log.fileno())
        closing.callback(exporter.wait, 30)
        closing.callback(exporter.terminate)

    def records(self, word: str) -> Sequence[ConsumerRecord]:
        """Everything on a topic now, by append time."""
        wanted = {topic.name: topic.partitions for topic in wanted_topics(self._kafka.prefix, TopicSettings())}
        topic = f"{self._kafka.prefix}.{word}"
        return asyncio.run(self._read(topic, wanted[topic]))

    async def _read(self, topic: str, partitions: int) -> Sequence[ConsumerRecord]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self._kafka.bootstrap, enable_auto_commit=False)
        await consumer.start()
        try:
            places = [TopicPartition(topic, number) for number in range(partitions)]
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            ends = await consumer.end_offsets(places)
            found: list[ConsumerRecord] = []
            while any([await consumer.position(place) < ends[place] for place in places]):
                for batch in (await consumer.getmany(timeout_ms=100)).values():
                    found.extend(batch)
        finally:
            await consumer.stop()
        return sorted(found, key=lambda record: record.timestamp)
