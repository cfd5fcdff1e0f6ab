"""``sluicegate topics``: create and check what is on the broker."""

from __future__ import annotations

import typer

from sluicegate.invocation import invocation


def create(context: typer.Context) -> None:
    """Create the topics that are missing, then check all of them.

    Partition counts, replication and the prefix are settings (stream.topics, stream.kafka.prefix).
    """
    import asyncio

    from stream.topics_admin import create_topics

    stream = invocation(context).settings.stream
    created = asyncio.run(create_topics(stream.kafka, stream.topics))
    for name in created:
        typer.echo(f"created {name}")
    typer.echo(f"{len(created)} topics created; all are as the settings say")


def check(context: typer.Context) -> None:
    """Compare the topics on the broker with the settings; each difference is a line with its remedy."""
    import asyncio

    from stream.topics_admin import check_topics

    stream = invocation(context).settings.stream
    asyncio.run(check_topics(stream.kafka, stream.topics))
    typer.echo(f"all topics under {stream.kafka.prefix} on {stream.kafka.bootstrap} are as the settings say")
