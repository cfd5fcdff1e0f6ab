"""What the tests of this folder hold in their hands: topics of one test, and worker processes."""

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[3]


@dataclass
class Topics:
    """Sends to and reads whole topics of one test."""

    bootstrap: str
    prefix: str
    producer: AIOKafkaProducer

    async def send(self, word: str, values: list[tuple[str, bytes]], partition: int | None = None) -> None:
        await asyncio.gather(
            *[
                self.producer.send(f"{self.prefix}.{word}", key=key.encode(), value=value, partition=partition)
                for key, value in values
            ]
        )
        await self.producer.flush()

    async def read(
        self, word: str, enough: Callable[[list[ConsumerRecord]], bool] = lambda _: True, within: float = 60
    ) -> list[ConsumerRecord]:
        """All records until `enough`, partition by partition in order; what came so far when time is up."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False)
        await consumer.start()
        records: list[ConsumerRecord] = []
        topic = f"{self.prefix}.{word}"
        try:
            await consumer._client.force_metadata_update()
            consumer.subscribe([topic])
            for _ in range(100):
                if partitions := consumer.partitions_for_topic(topic):
                    break
                await asyncio.sleep(0.05)
            consumer.unsubscribe()
            places = [TopicPartition(topic, p) for p in partitions or ()]
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            ends = await consumer.end_offsets(places)
            deadline = asyncio.get_running_loop().time() + within
            while asyncio.get_running_loop().time() < deadline:
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    records.extend(batch)
                reached = all([await consumer.position(place) >= ends[place] for place in places])
                if reached and enough(records):
                    break
        finally:
            await consumer.stop()
        return records


@dataclass
class WorkerProcesses:
    """Counting workers as processes; what is left running is killed at the end."""

    bootstrap: str
    prefix: str
    folder: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self, *, checkpoint_s: float = 3600, agents: str = "detect", quiet_s: float = 3600, dies_at: int | None = None,
        takeover_s: float = 0,
    ) -> subprocess.Popen[bytes]:  # fmt: skip
        log = (self.folder / f"worker{len(self.started)}.log").open("wb")
        death = [] if dies_at is None else [str(dies_at)]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.stream.counting_worker",
             self.bootstrap, self.prefix, str(checkpoint_s), agents, str(quiet_s), *death],
            stderr=log, stdout=log, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TAKEOVER_S": str(takeover_s)},
        )  # fmt: skip
        log.close()
        self.started.append(process)
        return process

    def log(self, number: int) -> str:
        return (self.folder / f"worker{number}.log").read_text()

    async def until_logged(self, number: int, text: str, within: float = 60) -> None:
        deadline = asyncio.get_running_loop().time() + within
        while text not in self.log(number):
            assert self.started[number].poll() is None, self.log(number)
            assert asyncio.get_running_loop().time() < deadline, f"{text!r} not in:\n{self.log(number)}"
            await asyncio.sleep(0.05)


class Health:
    """What a worker says of itself on the port that it logged."""

    def __init__(self, log: str) -> None:
        lines = [json.loads(line) for line in log.splitlines() if '"event": "health"' in line]
        self._base = f"http://127.0.0.1:{lines[0]['port']}"

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"{self._base}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """The sum over all labels."""
        _, text = self.get("/metrics")
        families = text_string_to_metric_families(text)
        return sum(s.value for f in families for s in f.samples if s.name == f"sluicegate_{name}")

    async def until(self, holds: Callable[["Health"], bool], within: float = 60) -> None:
        deadline = asyncio.get_running_loop().time() + within
        while not holds(self):
            assert asyncio.get_running_loop().time() < deadline, self.get("/metrics")[1]
            await asyncio.sleep(0.1)
