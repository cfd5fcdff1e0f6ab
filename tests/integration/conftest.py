"""The broker of all tests below: one for the whole session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sluicegate.demo_place import CACHE
from sluicegate.local_broker import LocalBroker, local_broker, missing_tools


@pytest.fixture(scope="session")
def local_kafka() -> Iterator[LocalBroker]:
    """A broker of our own, which a test may stop and start again."""
    if problems := missing_tools(CACHE):
        pytest.skip("; ".join(problems))
    with local_broker(CACHE) as broker:
        yield broker


@pytest.fixture(scope="session")
def bootstrap(request: pytest.FixtureRequest) -> str:
    """The broker named by SLUICEGATE_KAFKA, else one of our own."""
    if named := os.environ.get("SLUICEGATE_KAFKA"):
        return named
    broker: LocalBroker = request.getfixturevalue("local_kafka")
    return broker.bootstrap
