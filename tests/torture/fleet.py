"""The workers of one run: they join, leave, are killed, and come back when they end by themselves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.worker_process import Sample, WorkerEnded, WorkerProcess

# A killed worker's partitions move after 6 s, the least that Kafka grants; snapshots come often enough to matter.
HURRIED = {
    "SLUICEGATE_STREAM__WORKER__SESSION_TIMEOUT_S": "6",
    "SLUICEGATE_STREAM__WORKER__CHECKPOINT_INTERVAL_S": "2",
}
# As a kubelet would: at once the first time, and never so often that it keeps the machine busy.
_RESTART_S = 2.0
_LOOK_S = 0.05
_READY_S = 60.0


class Fleet:
    """Workers on one prefix; use `fleet`. `restarts` counts those that ended by themselves; `reasons` says why."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path, replication: int,
                 environment: Mapping[str, str] = HURRIED) -> None:  # fmt: skip
        self._place = bootstrap, prefix
        self._folder, self._started = folder, 0
        self._environment = {**environment, "SLUICEGATE_STREAM__TOPICS__REPLICATION": str(replication)}
        self.workers: list[WorkerProcess] = []
        self.restarts, self.kills = 0, 0
        self.reasons: list[str] = []

    def join(self) -> WorkerProcess:
        """Start one more."""
        self._started += 1
        folder = self._folder / f"worker{self._started}"
        folder.mkdir()
        worker = WorkerProcess(*self._place, folder, self._environment)
        self.workers.append(worker)
        return worker

    async def leave(self, worker: WorkerProcess) -> None:
        """Ask one to stop and wait for its end."""
        self.workers.remove(worker)
        await asyncio.to_thread(worker.stop)

    def kill(self, worker: WorkerProcess) -> None:
        """SIGKILL one."""
        self.workers.remove(worker)
        worker.kill()
        self.kills += 1

    async def supervise(self) -> None:
        """Start another for each that ended by itself, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            for worker in [w for w in self.workers if w.ended]:
                self.workers.remove(worker)
                self.restarts += 1
                self.reasons.append(worker.last_words())
                await asyncio.sleep(_RESTART_S)
                self.join()

    async def until(self, worker: WorkerProcess, enough: Callable[[Sample], bool], within: float) -> bool:
        """Wait until a worker has done enough; False when it ended, or did not within so many seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while loop.time() < deadline:
            try:
                sample = await worker.sample()
            except WorkerEnded:
                return False
            if sample is not None and enough(sample):
                return True
            await asyncio.sleep(_LOOK_S)
        return False

    async def ready(self) -> None:
        """Wait until every worker has taken over its partitions.

        Raises:
            TimeoutError: one has not for a minute.
        """
        async with asyncio.timeout(_READY_S):
            while not all([await asyncio.to_thread(w.ready) for w in self.workers]):  # noqa: ASYNC110 - other processes
                await asyncio.sleep(_LOOK_S)

    async def stop(self) -> None:
        """Ask all to stop, and wait."""
        leaving, self.workers = self.workers, []
        await asyncio.gather(*(asyncio.to_thread(worker.stop) for worker in leaving))

    def kill_all(self) -> None:
        """End whatever still runs, without waiting for anything."""
        for worker in self.workers:
            worker.kill()
        self.workers = []


@asynccontextmanager
async def fleet(bootstrap: str, prefix: str, folder: Path, replication: int, workers: int,
                environment: Mapping[str, str] = HURRIED) -> AsyncIterator[Fleet]:  # fmt: skip
    """So many workers, watched over; at the end none runs."""
    made = Fleet(bootstrap, prefix, folder, replication, environment)
    watching = asyncio.create_task(made.supervise())
    try:
        for _ in range(workers):
            made.join()
        yield made
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        made.kill_all()
