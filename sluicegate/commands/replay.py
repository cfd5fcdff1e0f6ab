"""``sluicegate replay``: files through the whole composition in this process, without a broker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sluicegate.invocation import invocation


def replay(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Captures, flow logs, event files; - for a pipe.")],
    inventory: Annotated[Path | None, typer.Option(metavar="FILE", help="Who had which address (JSON lines).")] = None,
    rules: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="Rules (YAML); may be repeated.")] = None,
    policy: Annotated[Path | None, typer.Option(metavar="FILE", help="Decision policy (YAML).")] = None,
    node: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Node of each capture, in order.")] = None,
    cluster: Annotated[str, typer.Option(help="Cluster of the nodes.")] = "local",
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every revision of every alert and incident.")
    ] = None,
    respond: Annotated[bool, typer.Option("--respond", help="Show what would contain each alert, with proof.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print those revisions (JSON lines), no table.")] = False,
) -> None:
    """Run captures, flow logs or event files through the engines and print the alerts and incidents.

    The same files and settings give the same alerts and incidents, byte for byte, as the agents on a broker.
    `--output` and `--json` give them as JSON lines whose `type` says which is which. What a damaged capture held
    before its end is analysed, and a warning says where it ended.
    """
    from sluicegate.replay_run import Replay

    run = Replay(invocation(context).settings, cluster, inventory, rules or [], policy)
    run.run(files, node or [], output=output, as_json=as_json, respond=respond)
