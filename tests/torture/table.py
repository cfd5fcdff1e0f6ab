"""The results of a run as one table for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

_LINES = 3  # of what is wrong, a row


def result_table(result: dict[str, Any]) -> Table:
    """Return the table of a result of ``tests.torture.run.main``; it may be of a run that was broken off."""
    facts = result["machine"]
    cores = f"{facts['cores_allowed']} of {facts['cores']} cores"
    title = f"{facts['cpu']}, {cores}, scale {result['scale']}, seed {result['seed']}"
    table = Table(title=title, title_justify="left")
    for name in ("scenario", "input", "what"):
        table.add_column(name)
    for name in ("alerts", "incidents", "resent", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("result")
    for name, results in result["scenarios"].items():
        for one in results:
            numbers = (_number(one.get(key)) for key in ("alerts", "incidents", "resent", "seconds"))
            # Text, because what alerts say may look like markup.
            table.add_row(name, one.get("input", ""), one.get("what", ""), *numbers, Text("\n".join(_told(one))))
    return table


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) else ""


def _told(one: dict[str, Any]) -> Iterator[str]:
    for word in ("skipped", "failed"):
        if word in one:
            yield f"{word}: {one[word]}"
            return
    if "differences" in one:
        yield "the same" if not one["differences"] else f"{one['differences']:,} DIFFERENCES"
        yield from one["first_differences"][:_LINES]
    if "wrong" in one:
        yield "as it must be" if not one["wrong"] else f"{len(one['wrong'])} WRONG"
        yield from one["wrong"][:_LINES]
    yield from _figures(one)


def _figures(one: dict[str, Any]) -> Iterator[str]:
    if "hits" in one:
        yield f"{one['hits']} of {one['attacks']} attacks found"
    if "flows_per_second" in one:
        yield f"{one['flows_per_second']:,} flows/s"
    if one.get("restarts"):
        yield f"{one['restarts']} workers ended by themselves and were started again"
    if one.get("unread") and any(one["unread"].values()):
        yield f"not committed: {one['unread']}"
    if one.get("dead_letters"):
        yield f"{one['dead_letters']} dead letters"
    if one.get("peak_memory_mb"):
        yield f"{one['peak_memory_mb']} MiB at most"
    if "rollup_share" in one:
        yield f"rollups {one['rollup_share']:.1%} of events, stage 2 {one['stage_two_share']:.0%} of the engine's time"
        yield f"memory x {one['memory_growth']:.2f}, {one['disk_gb']:.1f} GB on disk"
    for stage in ("stage_one", "stage_two"):
        if one.get(stage, {}).get("alerts"):
            found = one[stage]
            yield f"{stage.replace('_', ' ')}: p50 {found['p50_ms']} ms, p99 {found['p99_ms']} ms of {found['alerts']}"
