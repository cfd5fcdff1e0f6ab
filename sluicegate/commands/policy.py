"""``sluicegate policy``: try a policy file before it decides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sluicegate.invocation import invocation


def try_policy(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Policy file (YAML) to try.")],
    alerts: Annotated[Path, typer.Option(metavar="FILE", help="Alerts, one JSON a line; - reads standard input.")],
    inventory: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Inventory (JSON lines): also plan and prove against it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The decisions as JSON lines.")] = False,
) -> None:
    """Run alerts through a policy file and print what would happen; nothing is done.

    Lines of other records than alerts (watermarks) are passed over; an alert that is decided like its earlier
    revision is printed once.
    """
    from sluicegate.policy_trial import print_trial, read_alert_lines, trial

    decided = trial(file, read_alert_lines(alerts))
    if as_json:
        for decision in decided:
            typer.echo(decision.encode().decode())
    else:
        print_trial(decided, invocation(context).settings.response, inventory)
