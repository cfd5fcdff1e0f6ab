"""State on the broker as text for people and as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas.word import iso_time
from sluicegate.terminal import cell, console, table
from stream.state_admin import StateSummary

_UNITS = ("B", "KiB", "MiB", "GiB")


def size_text(size: int) -> str:
    """Return bytes with three digits at most before the unit."""
    value = float(size)
    for unit in _UNITS[:-1]:
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} {_UNITS[-1]}"


def age_text(seconds: float) -> str:
    """Return an age in its largest fitting unit."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def state_words(state: StateSummary) -> dict[str, Any]:
    """Return one partition's state as JSON values."""
    words: dict[str, Any] = {
        "agent": state.agent, "partition": state.partition, "records": len(state.keys), "refused": list(state.refused),
    }  # fmt: skip
    if state.snapshot is not None:
        manifest = state.snapshot.manifest
        words |= {
            "next_offset": manifest.next_offset, "epoch": manifest.epoch, "partitions": manifest.partitions,
            "size": manifest.size, "stored": state.stored, "chain": state.chain,
            "written_at": iso_time(state.written_at), "sections": [s.model_dump() for s in manifest.sections],
        }  # fmt: skip
    return words


def print_states(states: Sequence[StateSummary], now: float) -> None:
    """Print one row per partition.

    Args:
        states: what there is.
        now: s since the epoch, for ages.
    """
    rows = table("AGENT", "PARTITION", "NEXT OFFSET", "EPOCH", "SIZE", "STORED", "CHAIN", "AGE",
                 right=("PARTITION", "NEXT OFFSET", "EPOCH", "SIZE", "STORED", "CHAIN", "AGE"))  # fmt: skip
    for state in states:
        rows.add_row(cell(state.agent), *(cell(word) for word in (state.partition, *_figures(state, now))))
    console().print(rows)


def print_state(state: StateSummary, now: float) -> None:
    """Print one partition's snapshot: where it stands, its sections, and what is wrong with others.

    Args:
        state: the partition.
        now: s since the epoch, for its age.
    """
    out = console()
    out.print(cell(f"{state.agent} partition {state.partition}", "bold"))
    if state.snapshot is None:
        out.print(cell(f"no whole snapshot; {len(state.keys)} records"))
    else:
        manifest = state.snapshot.manifest
        out.print(cell(f"holds all input below offset {manifest.next_offset}, of {manifest.partitions} partitions"))
        out.print(cell(f"written {iso_time(state.written_at)} ({age_text(now - state.written_at)} ago), owner epoch "
                       f"{manifest.epoch}"))  # fmt: skip
        out.print(cell(f"{size_text(manifest.size)} of state; {size_text(state.stored)} stored, by {state.chain} "
                       f"checkpoints in {len(manifest.chunks) + len(manifest.index)} chunks"))  # fmt: skip
        rows = table("SECTION", "VERSION", "SIZE", right=("VERSION", "SIZE"))
        for section in manifest.sections:
            rows.add_row(cell(section.name), cell(section.version), cell(size_text(section.size)))
        out.print(rows)
    for line in state.refused:
        out.print(cell(line, "yellow"))


def _figures(state: StateSummary, now: float) -> tuple[object, ...]:
    if state.snapshot is None:
        return ("none whole", *[""] * 5)
    manifest = state.snapshot.manifest
    return (
        manifest.next_offset, manifest.epoch, size_text(manifest.size), size_text(state.stored), state.chain,
        age_text(now - state.written_at),
    )  # fmt: skip
