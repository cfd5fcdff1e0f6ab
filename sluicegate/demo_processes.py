"""The worker and the responder of the demo, as processes of their own."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from sluicegate.problems import UNREACHABLE, CommandProblem

READY_SECONDS = 60.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.2


class DemoProcess:
    """One ``sluicegate`` command that serves /readyz; its log goes to a file."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self._port = _free_port()
        self._log = folder / f"{name}.log"
        given = {**os.environ, **environment, "SLUICEGATE_STREAM__HEALTH__PORT": str(self._port)}
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C at the terminal reaches only us, and we stop it in order.
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [*_dies_with_us(), sys.executable, "-m", "sluicegate", *arguments],
                stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=given, start_new_session=True,
            )  # fmt: skip

    async def ready(self) -> None:
        """Wait until it says that it has its partitions.

        Raises:
            CommandProblem: it ended, or is not ready in time; with the last line of its log.
        """
        deadline = time.monotonic() + READY_SECONDS
        while not await asyncio.to_thread(self._is_ready):
            if self._process.poll() is not None or time.monotonic() > deadline:
                state = "ended" if self._process.poll() is not None else f"was not ready after {READY_SECONDS:.0f} s"
                message = f"the {self.name} {state}: {self.last_line()}"
                raise CommandProblem(message, UNREACHABLE)
            await asyncio.sleep(_POLL_SECONDS)

    def check(self) -> None:
        """Notice that it has ended.

        Raises:
            CommandProblem: with the last line of its log.
        """
        if self._process.poll() is not None:
            message = f"the {self.name} ended: {self.last_line()}"
            raise CommandProblem(message)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def last_line(self) -> str:
        """Return the last line of its log."""
        lines = self._log.read_bytes().decode("utf-8", "replace").splitlines()
        return lines[-1][:300] if lines else "it logged nothing"

    def stop(self) -> None:
        """End it: asked first, then killed."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _dies_with_us() -> list[str]:
    """A prefix that ends the process with this one, even a killed one, where util-linux offers it."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []
