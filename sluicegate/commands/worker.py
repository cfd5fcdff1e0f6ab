"""``sluicegate worker``: the detecting agents on the broker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sluicegate.invocation import invocation

LogLevel = Literal["debug", "info", "warning", "error"]


def worker(
    context: typer.Context,
    rules: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="Rules (YAML); may be repeated.")] = None,
    policy: Annotated[Path | None, typer.Option(metavar="FILE", help="Decision policy (YAML).")] = None,
    log_level: Annotated[LogLevel, typer.Option(help="Least severe log lines written.")] = "info",
) -> None:
    """Run the agents detect, correlate, incidents and decide until SIGTERM.

    Several workers share the partitions; all must have the same settings, rules and policy. Logs are JSON
    lines on standard error; health and metrics are served on stream.health.port.
    """
    from sluicegate.composition import parts
    from stream.inventory_log import InventoryLog
    from stream.structured_logs import configure_logs
    from stream.watch_log import WatchLog
    from stream.worker import StageFactories, run

    settings = invocation(context).settings
    built = parts(settings, rules=rules or [], policy=policy, inventory=InventoryLog(), watches=WatchLog())
    configure_logs(log_level)
    stages = StageFactories(
        built.detect, built.correlate, built.incidents, built.decide, built.inventory, built.watches
    )  # fmt: skip
    raise typer.Exit(run(settings.stream, stages))
