"""Benchmarks quieten Python's cycle collector, as workers do; tests of other files make engine after engine."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def usual_collector() -> Iterator[None]:
    """The collector as it was, after each test: without it the memory of later tests comes back late."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()
