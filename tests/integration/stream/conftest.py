import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from tests.integration.stream.harness import Topics, WorkerProcesses


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
