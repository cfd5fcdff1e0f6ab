"""Sums of data quality over the findings of a tick and over the ticks of an episode."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from schemas.finding import DataQuality, Finding

MAX_NOTES = 8
_COUNTS = ("lost_packets", "lost_rows", "malformed", "late", "lost_messages", "restamped", "shed")


def added(first: DataQuality, second: DataQuality) -> DataQuality:
    """Return the sum of two different times or nodes: counts add up, the coarser sampling counts."""
    return _combined(first, second, sum)


def tick_quality(findings: Iterable[Finding]) -> DataQuality:
    """Return the quality of one tick.

    Findings of one node tell the same losses, so they count once; those of several nodes add up.
    """
    nodes: dict[str, DataQuality] = {}
    for finding in findings:
        known = nodes.get(finding.node)
        quality = finding.data_quality
        nodes[finding.node] = quality if known is None else _combined(known, quality, max)
    total = DataQuality()
    for quality in nodes.values():
        total = added(total, quality)
    return total


def _combined(first: DataQuality, second: DataQuality, how: Callable[[tuple[int, int]], int]) -> DataQuality:
    notes = tuple(dict.fromkeys((*first.notes, *second.notes)))[:MAX_NOTES]
    counts = {name: how((getattr(first, name), getattr(second, name))) for name in _COUNTS}
    return DataQuality(sampling=max(first.sampling, second.sampling), notes=notes, **counts)
