from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sluicegate.__main__ import run


@dataclass(frozen=True)
class Ran:
    """One command: exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """The one line on standard error."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err + self.out
        return lines[0]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run the command line in this process."""

    def call(*arguments: str | Path) -> Ran:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return call


@pytest.fixture
def cases() -> Path:
    return Path(__file__).parents[2] / "cases"


@pytest.fixture
def scan(cases: Path) -> Path:
    """A small recorded port scan."""
    return cases / "port_scan" / "syn" / "capture.pcapng.gz"
