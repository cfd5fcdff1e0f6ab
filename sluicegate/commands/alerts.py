"""``sluicegate alerts``: read what the worker writes."""

from __future__ import annotations

from typing import Annotated

import typer

from sluicegate.invocation import invocation


def tail(
    context: typer.Context,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Start with the oldest alert kept.")] = False,
    follow: Annotated[bool, typer.Option(help="Wait for more; otherwise end with what is there.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines as on the topic.")] = False,
) -> None:
    """Print alert revisions from the broker as they arrive; Ctrl-C ends it.

    Watermarks, by which the worker says how far it is, are left out.
    """
    import asyncio

    from sluicegate.alert_reader import read_alerts
    from sluicegate.alert_view import print_alert, print_heading
    from sluicegate.terminal import console

    kafka = invocation(context).settings.stream.kafka
    out = console()

    async def run() -> None:
        if not as_json:
            print_heading(out)
        async for record in read_alerts(kafka, from_beginning=from_beginning, follow=follow):
            if as_json:
                typer.echo(record.alert.encode().decode())
            else:
                print_alert(out, record.alert)

    asyncio.run(run())
