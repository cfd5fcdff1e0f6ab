"""How benchmarks take time: CPU time beside wall time, since a machine that is shared steals only the latter."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Taken:
    """One measurement: CPU seconds of this process, and wall seconds."""

    cpu: float
    wall: float

    def rates(self, amount: float) -> dict[str, int]:
        """Return what was done per second of each."""
        return {"per_cpu_second": round(amount / self.cpu), "per_wall_second": round(amount / self.wall)}


def timed(work: Callable[[], T]) -> tuple[Taken, T]:
    """Run once."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return Taken(max(time.process_time() - cpu, 1e-9), max(time.perf_counter() - wall, 1e-9)), result


def best(work: Callable[[], Any], repeats: int) -> Taken:
    """Run several times; the least CPU time and the least wall time, which may be of different runs."""
    runs = [timed(work)[0] for _ in range(repeats)]
    return Taken(min(r.cpu for r in runs), min(r.wall for r in runs))
