"""The figures of a run as one table for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.table import Table


@dataclass(frozen=True)
class Line:
    """One figure: rates per second of one core's CPU time and of wall time, and the ratio to its ceiling."""

    what: str
    unit: str
    cpu: int | None
    wall: int | None
    ratio: float | None = None
    note: str = ""


def figures_table(result: dict[str, Any]) -> Table:
    """Return the table of a result of ``benchmarks.run.run``."""
    facts = result["machine"]
    loads = "/".join(f"{value:g}" for value in facts["load_average"])
    cores = f"{facts['cores_allowed']} of {facts['cores']} cores"
    title = f"{facts['cpu']}, {cores}, Python {facts['python']}, load {loads} at the start"
    table = Table(title=title, title_justify="left")
    table.add_column("what", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    for name in ("per CPU s", "per wall s", "to ceiling"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("note")
    for line in lines(result):
        ratio = "" if line.ratio is None else f"{line.ratio:.0%}"
        table.add_row(line.what, line.unit, _number(line.cpu), _number(line.wall), ratio, line.note)
    return table


def lines(result: dict[str, Any]) -> list[Line]:
    """Return the figures in the order of the path: decode, engine, exporter, checkpoint, worker."""
    makers = {"decode": _decode, "engine": _engine, "exporter": _exporter, "checkpoint": _checkpoint, "worker": _worker}
    out: list[Line] = []
    for name, figures in result["benchmarks"].items():
        missing = next((word for word in ("skipped", "failed") if word in figures), None)
        if missing:
            out.append(Line(name, "", None, None, note=f"{missing}: {figures[missing]}"))
        else:
            out += makers[name](figures)
    return out


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _decode(figures: dict[str, Any]) -> Iterator[Line]:
    for rows, one in _by_size(figures):
        rate = one["flows_per_second"]
        note = f"{one['us_per_message']:,.0f} µs a message, {one['bytes_per_flow']:.0f} B a flow"
        yield Line(
            f"decode, {rows} rows a message", "flows", rate["per_cpu_second"], rate["per_wall_second"], note=note
        )


def _engine(figures: dict[str, Any]) -> Iterator[Line]:
    for name, batches in figures["sets"].items():
        for batch, one in batches.items():
            rate = one["flows_per_second"]
            yield Line(f"engine: {name}", "flows", rate["per_cpu_second"], rate["per_wall_second"], one["to_ceiling"],
                       f"{batch} messages at once" if batch != "1" else "a message at a time")  # fmt: skip


def _exporter(figures: dict[str, Any]) -> Iterator[Line]:
    rates = figures["packets_per_cpu_second"]
    yield Line("exporter: capture to messages", "packets", rates["exporter"], None, figures["exporter_to_record_walk"],
               "ceiling: reading the records alone")  # fmt: skip
    yield Line("beside it: dpkt, plain loop", "packets", rates["dpkt_loop"], None)
    yield Line("beside it: nfstream", "packets", rates["nfstream"], None)


def _checkpoint(figures: dict[str, Any]) -> Iterator[Line]:
    for keys, one in _by_size(figures):
        count, mega = int(keys), 1 << 20
        now = next(iter(one["pages"].values()))
        full, part, restore = now["full"], now["touched"], now["restore"]
        kafka = one.get("kafka")
        said = ["", "", ""]
        if kafka is not None:
            said = [
                f"; {kafka[f'{what}_seconds'] * 1000:,.0f} ms through Kafka" for what in ("full", "touched", "restore")
            ]
        yield Line(f"checkpoint of {count:,} keys, all", "keys", _rate(count, full, "cpu_"), _rate(count, full), None,
                   f"{full['bytes'] / mega:,.1f} MiB, paused {full['seconds'] * 1000:,.0f} ms{said[0]}")  # fmt: skip
        yield Line(f"the same, {part['share']:.0%} touched", "keys", _rate(count, part, "cpu_"), _rate(count, part),
                   part["bytes"] / full["bytes"],
                   f"{part['bytes'] / mega:,.1f} MiB, paused {part['seconds'] * 1000:,.0f} ms{said[1]}")  # fmt: skip
        yield Line("restore", "keys", _rate(count, restore, "cpu_"), _rate(count, restore), None,
                   f"{restore['seconds'] * 1000:,.0f} ms from memory{said[2]}")  # fmt: skip


def _rate(count: int, figures: dict[str, Any], clock: str = "") -> int:
    seconds: float = figures[f"{clock}seconds"]
    return round(count / seconds)


def _worker(figures: dict[str, Any]) -> Iterator[Line]:
    for rows, one in _by_size(figures):
        ceiling, rate = one["consume_decode"], one["worker"]
        yield Line(f"consume and decode, {rows} rows a message", "flows", ceiling["per_cpu_second"],
                   ceiling["per_wall_second"])  # fmt: skip
        later = f"stage 2 {one['stage_two_later_s']:.1f} s, commit {one['committed_later_s']:.1f} s later"
        note = f"{one['cpu_share']:.0%} of a core, {one['peak_memory_mb']} MiB at most; {later}"
        yield Line(f"worker, {rows} rows a message", "flows", rate["per_cpu_second"], rate["per_wall_second"],
                   one["to_ceiling"], note)  # fmt: skip


def _by_size(figures: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(rows, one) for rows, one in figures.items() if rows.isdecimal()]
