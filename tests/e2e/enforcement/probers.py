"""Probers in pods and what they saw: the measure of whether traffic flows, whatever any API says."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.enforcement import talk
from tests.lab.lab import Lab, wait_for

# The resolution of what is measured.
EVERY_S = 0.02
# A run of so many failures without a success is a closed door, not a lost packet.
CLOSED_AFTER = 8
CLOSE_SECONDS = 20.0
FAILURES = frozenset({talk.REFUSED, talk.TIMEOUT, talk.BROKEN})


def now() -> float:
    """This moment, s since the epoch, on the clock that all namespaces share."""
    return time.clock_gettime(time.CLOCK_REALTIME)


@dataclass(frozen=True)
class Exchange:
    """One try: start and end in s since the epoch, and its word."""

    began: float
    ended: float
    word: str

    @property
    def ok(self) -> bool:
        """The answer came."""
        return self.word == talk.OK


class Prober:
    """A talking process in a pod, an exchange every so many s. `kind` is fresh, held or asks; see `talk`."""

    def __init__(
        self, lab: Lab, folder: Path, where: str, kind: str, address: str, port: int, every: float = EVERY_S
    ) -> None:
        self.name = f"{where} {kind} {address}:{port}"
        self._file = folder / f"{where}-{kind}-{address.replace(':', '_')}-{port}-{time.monotonic_ns()}"
        command = [sys.executable, "-m", "tests.e2e.enforcement.talk", kind, address, str(port), str(every)]
        with self._file.open("wb") as out:
            self._process: subprocess.Popen[bytes] = lab.start(where, command, stdout=out.fileno())
        wait_for(lambda: bool(self.exchanges()), f"the prober {self.name}", 20.0)

    def exchanges(self, since: float = 0.0) -> list[Exchange]:
        """Everything tried since a moment, in order."""
        found = []
        for line in self._file.read_text().splitlines():
            words = line.split(" ")
            if len(words) == 3 and int(words[0]) >= since * 1e9:
                found.append(Exchange(int(words[0]) / 1e9, int(words[1]) / 1e9, words[2]))
        return found

    def failures(self, since: float = 0.0) -> list[Exchange]:
        """Exchanges since a moment that did not succeed."""
        return [exchange for exchange in self.exchanges(since) if not exchange.ok]

    def closed(self, since: float, seconds: float = CLOSE_SECONDS) -> list[Exchange]:
        """Wait until nothing gets through any more; what was tried since.

        Raises:
            TimeoutError: something still does.
        """
        return self._until(lambda last: not any(e.ok for e in last), "to be closed", since, seconds)

    def opened(self, since: float, seconds: float = CLOSE_SECONDS) -> list[Exchange]:
        """Wait until everything gets through again; what was tried since.

        Raises:
            TimeoutError: something still does not.
        """
        return self._until(lambda last: all(e.ok for e in last), "to be open", since, seconds)

    def _until(
        self, holds: Callable[[list[Exchange]], bool], what: str, since: float, seconds: float
    ) -> list[Exchange]:
        def reached() -> bool:
            tried = self.exchanges(since)
            return len(tried) >= CLOSED_AFTER and holds(tried[-CLOSED_AFTER:])

        wait_for(reached, f"{self.name} {what}", seconds)
        return self.exchanges(since)

    def tries(self, count: int, since: float, seconds: float = 60.0) -> list[Exchange]:
        """Wait for so many exchanges that began after a moment, and return them."""
        wait_for(lambda: len(self.exchanges(since)) >= count, f"{count} exchanges of {self.name}", seconds)
        return self.exchanges(since)


def last_success(tried: list[Exchange]) -> float | None:
    """When the last answer came, s since the epoch; None where none came."""
    return max((exchange.ended for exchange in tried if exchange.ok), default=None)


def first_failure(tried: list[Exchange]) -> float | None:
    """When the first try began that failed, s since the epoch."""
    return min((exchange.began for exchange in tried if not exchange.ok), default=None)
