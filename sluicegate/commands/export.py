"""``sluicegate export``: this node or captures as event messages to the broker, a file or a pipe."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sluicegate.invocation import invocation
from sluicegate.problems import CommandProblem


class Target(StrEnum):
    """Where messages go."""

    KAFKA = "kafka"
    FILE = "file"
    JSONL = "jsonl"


def export(
    context: typer.Context,
    to: Annotated[Target, typer.Option(help="kafka: topic events.v1; file: replay reads it; jsonl: to look at.")],
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="Captures or logs, one node each; - for a pipe; none: this node, live."),
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Without files, may be repeated: packets, conntrack, host.")
    ] = None,
    uplink: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Without files: interface to the network (exporter.packets.uplinks)."),
    ] = None,
    output: Annotated[str, typer.Option(metavar="FILE", help="For file and jsonl; - is standard output.")] = "-",
    speed: Annotated[str, typer.Option(metavar="real|N|max", help="Seconds of capture sent per second.")] = "max",
    now: Annotated[bool, typer.Option("--now", help="Move all times so that the capture begins now.")] = False,
    node: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Node of each capture, in order, or of this host.")
    ] = None,
    cluster: Annotated[str, typer.Option(help="Cluster of the nodes.")] = "local",
    inventory: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --to kafka: send this inventory first (JSON lines).")
    ] = None,
) -> None:
    """Turn captures, flow logs or this node's live packets into event messages and deliver them.

    Several captures are several nodes' and are sent side by side, in the order of their seconds. Without
    files this node is listened to until SIGTERM; while the broker is away messages wait, in memory and
    then in exporter.live.spool. Topics must exist (sluicegate topics create).
    """
    if not files:
        if now or speed != "max" or inventory is not None:
            message = "--now, --speed and --inventory are for captures: name the files"
            raise CommandProblem(message)
        _live(context, source or ["packets"], uplink or [], node or [], cluster, to, output)
        return
    if source or uplink:
        message = "--source and --uplink are for this node, live: leave the files out"
        raise CommandProblem(message)
    from sluicegate.export_run import ExportPlan, run_export

    plan = ExportPlan(
        files=files, nodes=node or [], cluster=cluster, to=to.value, output=output, speed=speed, now=now,
        inventory=inventory,
    )  # fmt: skip
    run_export(invocation(context).settings, plan)


def _live(
    context: typer.Context, sources: list[str], uplinks: list[str], nodes: list[str], cluster: str, to: Target,
    output: str,
) -> None:  # fmt: skip
    from exporter.privileges import Privilege, keep_only

    # Before libraries start threads, which keep what the first one had.
    keep_only(list(Privilege))
    from sluicegate.live_run import LivePlan, run_live_export

    if len(nodes) > 1:
        message = "several --node: a live exporter is one node's"
        raise CommandProblem(message)
    settings = invocation(context).node_settings
    if uplinks:
        packets = settings.exporter.packets.model_copy(update={"uplinks": tuple(uplinks)})
        exporter = settings.exporter.model_copy(update={"packets": packets})
        settings = settings.model_copy(update={"exporter": exporter})
    run_live_export(settings, LivePlan(sources, nodes[0] if nodes else "", cluster, to.value, output))
