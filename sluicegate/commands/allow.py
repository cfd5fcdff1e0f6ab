"""``sluicegate allow``: whom responses never cut off."""

from __future__ import annotations

from typing import Annotated

import typer

from sluicegate.commands.containments import AsJson, Cluster, Reason, Wait, order
from sluicegate.invocation import invocation

Target = Annotated[str, typer.Argument(help="Address, block, namespace/pod, namespace/Kind/name or namespace/*.")]


def add(
    context: typer.Context,
    target: Target,
    reason: Reason,
    duration: Annotated[int, typer.Option("--for", min=0, metavar="SECONDS", help="0: for good.")] = 0,
    cluster: Cluster = "local",
    wait: Wait = 10,
) -> None:
    """Never cut somebody off; containments that do are taken back."""
    order(context, "allow", target, cluster, reason, wait, duration)


def remove(
    context: typer.Context, target: Target, reason: Reason = "", cluster: Cluster = "local", wait: Wait = 10
) -> None:
    """Take an entry off the allow-list; nothing is applied by that alone."""
    order(context, "disallow", target, cluster, reason, wait)


def list_allowed(context: typer.Context, cluster: Cluster = "local", as_json: AsJson = False) -> None:
    """List who is allowed, until when, by whom and why."""
    import asyncio
    import time

    import orjson

    from schemas.word import iso_time
    from sluicegate.action_reader import read_ledger
    from sluicegate.containment_view import print_allowed

    now = time.time()  # noqa: TID251 - when the operator looks
    ledger, _ = asyncio.run(read_ledger(invocation(context).settings.stream.kafka, cluster, now))
    entries = ledger.allowed(now)
    if not as_json:
        print_allowed(entries)
        return
    for item in entries:
        until = iso_time(item.until) if item.until else None
        words = {"target": item.target, "until": until, "operator": item.operator, "reason": item.reason}
        typer.echo(orjson.dumps(words))
