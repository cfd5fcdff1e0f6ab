#!/usr/bin/env python3
"""Writes the generated pages of this folder, or tells (``--check``) whether they are what they should be.

Run it from anywhere after the project is installed: ``python docs/generate.py``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from exporter.inventory.telemetry import metrics_table as inventory_metrics
from exporter.telemetry import metrics_table as exporter_metrics
from schemas.reference import documents
from sluicegate.reference import documents as command_documents
from stream.node_telemetry import metrics_table as node_metrics
from stream.telemetry import metrics_markdown
from stream.topics_admin import topics_markdown

HERE = Path(__file__).resolve().parent


def pages() -> dict[str, str]:
    """Return the text of every generated file, by its path in this folder."""
    metrics = metrics_markdown() + inventory_metrics() + exporter_metrics() + node_metrics()
    return {**documents(), **command_documents(), "metrics.md": metrics, "topics.md": topics_markdown()}


def stale(folder: Path) -> list[str]:
    """Return the generated files that are missing, differ, or are no longer made."""
    wanted = pages()
    made = {str(path.relative_to(folder)) for path in (folder / "schema").glob("*.json")}
    differing = {name for name, text in wanted.items() if not _holds(folder / name, text)}
    return sorted(differing | (made - set(wanted)))


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def write(folder: Path) -> None:
    """Make the folder's generated files what they should be."""
    wanted = pages()
    for name in stale(folder):
        path = folder / name
        if name not in wanted:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[name], encoding="utf-8")


def main() -> int:
    """Return 0 when all is as it should be (now)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a file is out of date")
    if parser.parse_args().check:
        found = stale(HERE)
        for name in found:
            sys.stderr.write(f"docs/{name} is out of date: run python docs/generate.py\n")
        return 1 if found else 0
    write(HERE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
