import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from sluicegate.local_broker import LocalBroker, local_broker, missing_tools
from tests.integration.stream.harness import ROOT, Topics, WorkerProcesses

CACHE = ROOT / ".cache" / "kafka"


@pytest.fixture(scope="session")
def local_kafka() -> Iterator[LocalBroker]:
    problems = missing_tools(CACHE)
    if problems:
        pytest.skip("; ".join(problems))
    with local_broker(CACHE) as broker:
        yield broker


@pytest.fixture(scope="session")
def bootstrap(request: pytest.FixtureRequest) -> str:
    """The broker named by SLUICEGATE_KAFKA, else one of our own."""
    named = os.environ.get("SLUICEGATE_KAFKA")
    if named:
        return named
    broker: LocalBroker = request.getfixturevalue("local_kafka")
    return broker.bootstrap


@pytest.fixture
def prefix() -> str:
    """Topics and groups of one test only."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def topics(bootstrap: str, prefix: str) -> AsyncIterator[Topics]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    yield Topics(bootstrap, prefix, producer)
    await producer.stop()


@pytest.fixture
def workers(bootstrap: str, prefix: str, tmp_path: Path) -> Iterator[WorkerProcesses]:
    processes = WorkerProcesses(bootstrap, prefix, tmp_path)
    yield processes
    for process in processes.started:
        if process.poll() is None:
            process.kill()
        process.wait()
