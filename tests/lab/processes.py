"""The end of a process that a test started."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ended(process: subprocess.Popen[bytes], within: float = 20.0) -> Iterator[None]:
    """Ask a process to end when the block is left, and kill it where it has not after so many seconds."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(within)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
