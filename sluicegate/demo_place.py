"""Where the demo finds its recording, and where it may keep what it downloads."""

from __future__ import annotations

from pathlib import Path

from sluicegate.cases import CASE_FILE, CaseFolder, read_case
from sluicegate.problems import CommandProblem

_ROOT = Path(__file__).resolve().parent.parent
CASE = _ROOT / "tests" / "cases" / "demo" / "mixed"
CACHE = _ROOT / ".cache" / "kafka"


def demo_case(folder: Path | None) -> CaseFolder:
    """Return the recording to show.

    Raises:
        CommandProblem: it is not there; an installed package does not carry it.
    """
    chosen = folder if folder is not None else CASE
    if not (chosen / CASE_FILE).is_file():
        message = f"{chosen}: no {CASE_FILE} there; run the demo in a checkout (make demo), or give --case DIR"
        raise CommandProblem(message)
    found = CaseFolder(chosen, read_case(chosen / CASE_FILE))
    found.check_input()
    return found
