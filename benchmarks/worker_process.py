"""The worker under measurement: started, watched through its own metrics and the kernel's CPU account, stopped."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from sluicegate.local_broker import death_signal

_STOP_SECONDS = 40.0
_TICKS = os.sysconf("SC_CLK_TCK")


class WorkerEnded(Exception):
    """The worker is gone; the text ends with the last line it logged."""


@dataclass(frozen=True)
class Sample:
    """What the worker had done at one moment."""

    at: float  # s, monotonic
    cpu: float  # s of CPU time since its start
    flows: int  # flow rows fed to detect
    messages: dict[str, int]  # messages fed, by agent
    alerts: int  # alert revisions sent
    busy: dict[str, float]  # s spent on feeding, by agent


class WorkerProcess:
    """One ``sluicegate worker``, with nothing set but the broker, the prefix, the health port and ``more``."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path, more: Mapping[str, str] | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        given = {
            **(more or {}),
            "SLUICEGATE_STREAM__KAFKA__BOOTSTRAP": bootstrap,
            "SLUICEGATE_STREAM__KAFKA__PREFIX": prefix,
            "SLUICEGATE_STREAM__HEALTH__PORT": str(self._port),
        }
        self._log = folder / f"{prefix}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*death_signal(), sys.executable, "-m", "sluicegate", "worker", "--log-level", "warning"],
                stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=folder, env={**os.environ, **given},
            )  # fmt: skip

    async def sample(self) -> Sample | None:
        """Return what it has done so far; none while it does not answer yet.

        Raises:
            WorkerEnded: it is gone.
        """
        if self.ended:
            raise WorkerEnded(f"the worker ended: {self.last_words()}")
        try:
            text = await asyncio.to_thread(self._metrics)
        except (urllib.error.URLError, OSError):
            return None
        flows = alerts = 0
        messages: dict[str, int] = {}
        busy: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for one in family.samples:
                if one.name == "sluicegate_rows_total" and one.labels["kind"] == "flow":
                    flows += int(one.value)
                elif one.name == "sluicegate_messages_total":
                    messages[one.labels["agent"]] = int(one.value)
                elif one.name == "sluicegate_alerts_total":
                    alerts += int(one.value)
                elif one.name == "sluicegate_process_seconds_sum":
                    busy[one.labels["agent"]] = one.value
        try:
            return Sample(time.monotonic(), self._cpu(), flows, messages, alerts, busy)
        except OSError:  # it ended between the two looks; the next one says so
            return None

    def ready(self) -> bool:
        """Tell whether its agents have taken over their partitions."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    @property
    def ended(self) -> bool:
        """It is gone."""
        return self._process.poll() is not None

    def last_words(self) -> str:
        """Return the last line that it wrote for people, else the last that it logged."""
        lines = self._log.read_bytes().decode("utf-8", "replace").splitlines()
        lines = [line for line in lines if not line.startswith("{")] or lines
        return lines[-1][:300] if lines else "it logged nothing"

    def _metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def _cpu(self) -> float:
        # After the name, which may hold blanks: fields 14 and 15 of proc(5), user and system ticks.
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def peak_memory(self) -> int:
        """Return the largest resident size so far, bytes."""
        return self._memory("VmHWM")

    def memory(self) -> int:
        """Return the resident size now, bytes."""
        return self._memory("VmRSS")

    def _memory(self, name: str) -> int:
        """Return a field of proc(5); 0 for a process that has just ended."""
        try:
            lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)

    def kill(self) -> None:
        """SIGKILL it and wait for its end."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it: asked first, then killed."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
