"""Sigma files in, a rule file out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sluicegate.problems import CommandProblem

MAX_BYTES = 16 << 20  # of one file; the whole public collection is about 10 MB


def read_sigma(paths: Sequence[Path]) -> list[tuple[str, str]]:
    """Return name and text of each file.

    Raises:
        CommandProblem: one that cannot be read, is too long, or no UTF-8.
    """
    texts = []
    for path in paths:
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
            text = raw.decode()
        except OSError as error:
            message = f"{path}: cannot read the Sigma rules: {error.strerror}"
            raise CommandProblem(message) from None
        except UnicodeDecodeError:
            message = f"{path}: not UTF-8 text"
            raise CommandProblem(message) from None
        if len(raw) > MAX_BYTES:
            message = f"{path}: more than {MAX_BYTES} bytes; split the rules into several files"
            raise CommandProblem(message)
        texts.append((str(path), text))
    return texts


def write_rules(path: Path, text: str) -> None:
    """Write a rule file.

    Raises:
        CommandProblem: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        message = f"{path}: cannot write the rules: {error.strerror}"
        raise CommandProblem(message) from None
