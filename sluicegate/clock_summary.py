"""A capture's own clock: how much, how fast, and whether its times can be trusted."""

from __future__ import annotations

from typing import Any

import numpy as np

from exporter.chunks import LINK_NAMES, CaptureReport, PacketChunk
from exporter.settings import ReadingSettings
from exporter.sources.capture import read_chunks
from schemas.word import iso_time

GAP_SECONDS = 10
_SECOND = 1_000_000_000


class ClockSummary:
    """Takes packets in file order."""

    def __init__(self) -> None:
        self._packets = self._bytes = self._cut_short = self._lost = 0
        self._first: int | None = None
        self._last = self._latest = 0
        self._inversions = self._worst_inversion = 0
        self._gaps = self._longest_gap = self._longest_gap_at = 0
        self._busiest = self._second = self._in_second = 0
        self._interfaces: dict[str, int] = {}

    def add(self, chunk: PacketChunk) -> None:
        """Take a chunk of packets."""
        if not len(chunk):
            return
        times = chunk.times
        if self._first is None:
            self._first = self._last = self._latest = int(times[0])
        self._packets += len(chunk)
        self._bytes += int(chunk.wire.sum())
        self._lost += chunk.lost
        self._cut_short += int((chunk.captured < chunk.wire).sum())
        self._add_steps(np.diff(times, prepend=self._last), times)
        self._add_seconds(times // _SECOND)
        self._first = min(self._first, int(times.min()))
        self._last, self._latest = int(times[-1]), max(self._latest, int(times.max()))
        for number, count in zip(*np.unique(chunk.interfaces, return_counts=True), strict=True):
            interface = chunk.table[int(number)]
            link = LINK_NAMES.get(interface.link_type, f"link type {interface.link_type}")
            name = f"{interface.name or 'unnamed'} ({link})"
            self._interfaces[name] = self._interfaces.get(name, 0) + int(count)

    def _add_steps(
        self, steps: np.ndarray[Any, np.dtype[np.int64]], times: np.ndarray[Any, np.dtype[np.int64]]
    ) -> None:
        self._inversions += int((steps < 0).sum())
        self._worst_inversion = min(self._worst_inversion, int(steps.min()))
        self._gaps += int((steps > GAP_SECONDS * _SECOND).sum())
        longest = int(np.argmax(steps))
        if int(steps[longest]) > self._longest_gap:
            self._longest_gap = int(steps[longest])
            self._longest_gap_at = int(times[longest]) - self._longest_gap

    def _add_seconds(self, seconds: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """Keep the busiest second; one second's packets may arrive in several chunks, in order."""
        starts = np.flatnonzero(np.diff(seconds, prepend=seconds[0] - 1))
        counts = np.diff(starts, append=len(seconds))
        if int(seconds[0]) == self._second:
            counts[0] += self._in_second
        self._busiest = max(self._busiest, int(counts.max()))
        self._second, self._in_second = int(seconds[-1]), int(counts[-1])

    def result(self) -> dict[str, Any]:
        """Return JSON values; times in text, lengths in s."""
        span = (self._latest - self._first) / _SECOND if self._first is not None else 0.0
        return {
            "packets": self._packets, "bytes": self._bytes, "lost_packets": self._lost,
            "first": iso_time(self._first / _SECOND) if self._first is not None else None,
            "last": iso_time(self._latest / _SECOND) if self._first is not None else None,
            "span_s": round(span, 6),
            "packets_per_s": round(self._packets / span, 1) if span else None, "busiest_second": self._busiest,
            "inversions": self._inversions, "worst_inversion_s": round(-self._worst_inversion / _SECOND, 6),
            "gaps": self._gaps, "longest_gap_s": round(self._longest_gap / _SECOND, 6),
            "longest_gap_at": iso_time(self._longest_gap_at / _SECOND) if self._longest_gap else None,
            "cut_short": self._cut_short, "interfaces": self._interfaces,
        }  # fmt: skip


def read_clock(path: str, settings: ReadingSettings) -> dict[str, Any]:
    """Return the clock of a capture file, in file order.

    Raises:
        CaptureError: it is no capture.
    """
    # Sorting would hide exactly what is asked for.
    in_file_order = settings.model_copy(update={"sort_bytes": 0})
    summary = ClockSummary()
    for chunk in read_chunks(path, in_file_order, CaptureReport()):
        summary.add(chunk)
    return summary.result()
