"""``sluicegate demo``: recorded attacks through the whole system."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sluicegate.invocation import invocation


def demo(
    context: typer.Context,
    embedded: Annotated[bool, typer.Option("--embedded", help="Without a broker, in this process.")] = False,
    speed: Annotated[float, typer.Option(min=0.1, max=10_000, help="Seconds of capture per second.")] = 20.0,
    case: Annotated[Path | None, typer.Option(metavar="DIR", help="Another case folder to show.")] = None,
) -> None:
    """Show recorded attacks going through exporter, Kafka, worker and responder, and what would contain them.

    Uses the broker named by SLUICEGATE_KAFKA, else starts one; without Java it runs embedded. Nothing is
    applied anywhere. Exit code 1 if an expected alert is missing.
    """
    from sluicegate import problems
    from sluicegate.demo_run import run_demo

    if not run_demo(invocation(context).settings, embedded=embedded, speed=speed, case=case):
        raise typer.Exit(problems.NOT_MET)
