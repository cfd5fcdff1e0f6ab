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

from response.signing import new_keys, write_private_key
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

    def __init__(self, cluster: LabCluster, bootstrap: str, folder: Path, *, node_agent: bool = False) -> None:
        self._cluster = cluster
        self._folder = folder
        self.node_agent = node_agent
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
            "stream": {
                "kafka": {"bootstrap": self._kafka.bootstrap, "prefix": self._kafka.prefix},
                "health": {"port": 0},  # two processes of the node share its loopback
            },
            "exporter": {"packets": {"uplinks": [pods.UPLINK], "cluster_networks": list(NETWORKS)}},
            **({"response": self._node_settings()} if self.node_agent else {}),
        }

    def _node_settings(self) -> dict[str, object]:
        """What the responder signs with, and what the node's agent believes."""
        private, lines = new_keys("responder", "the responder")
        key, known = self._folder / "responder.pem", self._folder / "keys.yaml"
        write_private_key(key, private)
        known.write_text(lines)
        return {
            "node_steps": {"enabled": True, "private_key_file": str(key), "key_id": "responder"},
            "node_agent": {"public_keys_file": str(known), "interval_s": 1},
        }

    def _start(self, closing: ExitStack, config: Path) -> None:
        kubeconfig = str(self._cluster.server.kubeconfig)
        common = ["--cluster", CLUSTER, "--log-level", "warning"]
        commands = {
            "inventory": ["inventory", "--kubeconfig", kubeconfig, *common],
            "worker": ["worker", "--policy", str(POLICY), "--log-level", "warning"],
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
        self._on_node(closing, config, "exporter", "export", "--to", "kafka")
        if self.node_agent:
            self._on_node(closing, config, "node-agent", "node-agent")
            log = self._folder / "node-agent.log"
            wait_for(lambda: b"commands read" in log.read_bytes(), "the node's agent to read commands", 60.0)

    def _on_node(self, closing: ExitStack, config: Path, name: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "sluicegate", "--config", str(config), *arguments,
                   "--node", pods.NODE, "--cluster", CLUSTER]  # fmt: skip
        with (self._folder / f"{name}.log").open("wb") as log:
            process = self._cluster.lab.start("node", command, stdout=log.fileno(), stderr=log.fileno())
        closing.callback(process.wait, 30)
        closing.callback(process.terminate)

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
