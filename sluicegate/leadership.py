"""Leading among several responders: standing by until the Lease is ours, then renewing it in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from response.gateway import ClusterError, LeaseStore
from response.lease import HOLD_S, RENEW_S, Candidate
from stream.health import HealthServer
from stream.settings import HealthSettings
from stream.telemetry import make_telemetry

log = structlog.get_logger("sluicegate.leadership")


def make_candidate(lease: str) -> Candidate | None:
    """Who this process is to others that want to lead; none where there are no others."""
    if not lease:
        return None
    namespace, _, name = lease.partition("/")
    return Candidate(namespace, name, f"{socket.gethostname()}_{secrets.token_hex(4)}")


class Leadership:
    """One candidate and the Lease it wants."""

    def __init__(self, store: LeaseStore, candidate: Candidate, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._candidate = candidate
        self._place = (candidate.namespace, candidate.name)
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def wait(self, health: HealthSettings) -> None:
        """Return once this process leads; until then probes see a healthy process that is not ready.

        Raises:
            ConnectionProblem: the health port is taken.
        """
        asyncio.run(self._stand_by(health))
        log.info("leading", lease="/".join(self._place), identity=self._candidate.identity)
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Let another lead at once."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(HOLD_S)
        with suppress(ClusterError):
            free = self._candidate.released(self._store.read_lease(*self._place))
            if free is not None:
                self._store.write_lease(free)

    async def _stand_by(self, health: HealthSettings) -> None:
        told = ""
        server = HealthServer(health, make_telemetry().registry, list, self._unready)
        while not await asyncio.to_thread(self.attempt):
            if not told:
                await server.start()
            if told != (told := self._unready()[0]):
                log.info(told)
            await asyncio.sleep(RENEW_S)
        await server.stop()

    def _unready(self) -> list[str]:
        return [f"standing by: {self._candidate.holder or 'nobody'} leads"]

    def attempt(self) -> bool:
        """Try once to get or to keep the Lease; whether it is ours now."""
        tick = self._clock()
        try:
            present = self._store.read_lease(*self._place)
            wanted = self._candidate.wanted(present, time.time(), tick)  # noqa: TID251 - what others read in the Lease
            if wanted is None:
                return False
            self._store.write_lease(wanted)
        except ClusterError as error:
            if error.reason != "conflict":
                log.warning("lease", error=str(error))
            return False
        self._candidate.wrote(tick)
        return True

    def _renew(self) -> None:
        while not self._ending.wait(RENEW_S):
            if not self.attempt() and not self._candidate.leads(self._clock()):
                log.error("not leading any more", holder=self._candidate.holder)
                # A clean stop; what starts next stands by. Nothing is changed meanwhile: the fence is down already.
                os.kill(os.getpid(), signal.SIGTERM)
                return
