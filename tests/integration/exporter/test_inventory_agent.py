"""The whole inventory agent as a process, between an engine and a real broker, and what a worker reads of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from stream.identity_feed import IdentityFeed
from stream.settings import KafkaSettings, TopicSettings
from stream.topics_admin import create_topics
from tests.unit.exporter.inventory.docker_engine import DockerEngine, container, network

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
LATER = 1 << 33  # a cut at which only what has no end holds


class Agent:
    """`sluicegate inventory` as a process; it must stop as asked."""

    def __init__(self, socket: Path, kafka: KafkaSettings, log: Path) -> None:
        environment = {
            **os.environ, "SLUICEGATE_STREAM__KAFKA__BOOTSTRAP": kafka.bootstrap,
            "SLUICEGATE_STREAM__KAFKA__PREFIX": kafka.prefix, "SLUICEGATE_STREAM__HEALTH__PORT": "0",
        }  # fmt: skip
        arguments = [sys.executable, "-m", "sluicegate", "inventory", "--docker", str(socket), "--cluster", "edge"]
        with log.open("ab") as file:
            self._process = subprocess.Popen(arguments, env=environment, stdout=file, stderr=file)
        self._log = log

    def said(self) -> str:
        return self._log.read_text()

    async def __aenter__(self) -> Agent:
        return self

    async def __aexit__(self, *error: object) -> None:
        try:
            self._process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(self._process.wait, 30) == 0, self.said()
        finally:
            if self._process.poll() is None:
                self._process.kill()
            await asyncio.to_thread(self._process.wait)

    async def until(self, reached: Callable[[], bool]) -> None:
        deadline = asyncio.get_running_loop().time() + 60
        while not reached():
            assert asyncio.get_running_loop().time() < deadline, self.said()
            assert self._process.poll() is None, self.said()
            await asyncio.sleep(0.05)


class Reader:
    """What a worker knows, and every statement that it read."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.table = IdentityTable()
        self.read: list[InventoryObject] = []
        self._feed = IdentityFeed(kafka, self._take)

    def _take(self, _offset: int, _appended_ms: int, item: InventoryObject | None) -> None:
        assert item is not None
        self.read.append(item)
        self.table.add(item)

    def name(self, ip: str) -> str | None:
        found = self.table.find(ip, LATER)
        return found.name if found else None

    async def __aenter__(self) -> Reader:
        await self._feed.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._feed.stop()


async def test_statements_reach_the_table_of_a_worker_and_a_successor_goes_on_from_them(
    bootstrap: str, tmp_path: Path
) -> None:
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=f"t{uuid.uuid4().hex[:12]}")
    await create_topics(kafka, TopicSettings())
    engine, socket, log = DockerEngine(), tmp_path / "docker.sock", tmp_path / "agent.log"
    engine.networks["n1"] = network("n1", "bridge", "bridge", ("172.17.0.0/16", "172.17.0.1"))
    engine.put(container("a" * 64, "web", {"bridge": ("172.17.0.2", "")}))
    engine.put(container("b" * 64, "db", {"bridge": ("172.17.0.3", "")}))
    await engine.start(socket)
    async with Reader(kafka) as reader:
        async with Agent(socket, kafka, log) as agent:
            await agent.until(lambda: reader.name("172.17.0.3") == "db" and reader.table.watermark > 0)
            assert reader.table.role("172.17.0.1", LATER) == "shared"
            first = reader.table.watermark
            await agent.until(lambda: reader.table.watermark >= first + 2)
            engine.die("b" * 64)
            await agent.until(lambda: reader.name("172.17.0.3") is None)
        # Nobody watches: web goes, and its address is given to another one.
        engine.die("a" * 64)
        engine.put(container("c" * 64, "new", {"bridge": ("172.17.0.2", "")}))
        said = len(reader.read)
        async with Agent(socket, kafka, log) as agent:
            await agent.until(lambda: reader.name("172.17.0.2") == "new")
            await agent.until(lambda: any(i.kind == "Watermark" for i in reader.read[said:]))
        since = [item for item in reader.read[said:] if item.kind != "Watermark"]
        assert sorted((item.name, item.valid_to is None) for item in since) == [("new", True), ("web", False)]
    async with Reader(kafka) as late:
        # A worker that starts now knows the same as one that was there all the time.
        assert late.name("172.17.0.2") == "new"
        assert late.table.counts() == reader.table.counts()
    await engine.stop()
