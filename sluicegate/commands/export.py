"""``sluicegate export``: captures as event messages to the broker, a file or a pipe."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sluicegate.invocation import invocation


class Target(StrEnum):
    """Where messages go."""

    KAFKA = "kafka"
    FILE = "file"
    JSONL = "jsonl"


def export(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Captures or logs, one node each; - for a pipe.")],
    to: Annotated[Target, typer.Option(help="kafka: topic events.v1; file: replay reads it; jsonl: to look at.")],
    output: Annotated[str, typer.Option(metavar="FILE", help="For file and jsonl; - is standard output.")] = "-",
    speed: Annotated[str, typer.Option(metavar="real|N|max", help="Seconds of capture sent per second.")] = "max",
    now: Annotated[bool, typer.Option("--now", help="Move all times so that the capture begins now.")] = False,
    node: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Node of each capture, in order.")] = None,
    cluster: Annotated[str, typer.Option(help="Cluster of the nodes.")] = "local",
    inventory: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --to kafka: send this inventory first (JSON lines).")
    ] = None,
) -> None:
    """Turn captures and flow logs into event messages and deliver them.

    Several captures are several nodes' and are sent side by side, in the order of their seconds. Topics
    must exist (sluicegate topics create).
    """
    from sluicegate.export_run import ExportPlan, run_export

    plan = ExportPlan(
        files=files, nodes=node or [], cluster=cluster, to=to.value, output=output, speed=speed, now=now,
        inventory=inventory,
    )  # fmt: skip
    run_export(invocation(context).settings, plan)
