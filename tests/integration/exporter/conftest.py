import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluicegate.local_broker import local_broker, missing_tools

CACHE = Path(__file__).resolve().parents[3] / ".cache" / "kafka"


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[str]:
    """The broker named by SLUICEGATE_KAFKA, else one of our own."""
    named = os.environ.get("SLUICEGATE_KAFKA")
    if named:
        yield named
        return
    problems = missing_tools(CACHE)
    if problems:
        pytest.skip("; ".join(problems))
    with local_broker(CACHE) as broker:
        yield broker.bootstrap
