"""A bar over the seconds of captures, on standard error, for whoever watches a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TypeVar

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from exporter.run import ExportSummary
from exporter.settings import ReadingSettings
from sluicegate.clock_summary import read_clock
from sluicegate.inputs import has_packets
from sluicegate.terminal import console

_Item = TypeVar("_Item")


class CaptureProgress:
    """A context manager that gives a function to be told the state after each message.

    The captures' length is read beforehand, by a pass over packet times alone; without files, and for flow logs,
    the bar only moves. Where standard error is no terminal nothing is read and nothing shown.
    """

    def __init__(self, files: Sequence[str], settings: ReadingSettings) -> None:
        self._files, self._settings = files, settings
        self._bar: Progress | None = None
        self._first_cut: int | None = None

    def __enter__(self) -> Callable[[ExportSummary], None]:
        if not sys.stderr.isatty():
            return _nothing
        total = self._seconds()
        text = TextColumn("{task.fields[rows]:,} rows")
        self._bar = Progress(
            TextColumn("exporting"), BarColumn(), text, TimeElapsedColumn(), console=console(sys.stderr)
        )
        self._bar.start()
        self._task = self._bar.add_task("exporting", total=total, rows=0)
        return self._show

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _seconds(self) -> float | None:
        if not all(has_packets(file) for file in self._files):
            return None
        clocks = [read_clock(file, self._settings) for file in self._files]
        spans = [clock["span_s"] for clock in clocks]
        return max(spans) + self._settings.drain_seconds if spans else None

    def _show(self, summary: ExportSummary) -> None:
        if self._bar is None:
            return
        if self._first_cut is None:
            self._first_cut = summary.cut
        self._bar.update(self._task, completed=summary.cut - self._first_cut, rows=summary.rows)


def _nothing(_summary: ExportSummary) -> None:
    """Nobody watches."""


def counted(items: Iterable[_Item], what: str, total: int) -> Iterator[_Item]:
    """Give the items on, with a bar on standard error where somebody watches."""
    if not sys.stderr.isatty():
        yield from items
        return
    columns = TextColumn(what), BarColumn(), TextColumn("{task.completed} of {task.total}"), TimeElapsedColumn()
    with Progress(*columns, console=console(sys.stderr), transient=True) as bar:
        task = bar.add_task(what, total=total)
        for item in items:
            yield item
            bar.advance(task)
