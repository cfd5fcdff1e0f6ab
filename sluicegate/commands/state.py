"""``sluicegate state``: the snapshots on the broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sluicegate.invocation import invocation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.state_admin import StateSummary

Agent = Annotated[str, typer.Argument(metavar="AGENT", help="detect, correlate, incidents or decide.")]


def list_states(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per partition.")] = False,
) -> None:
    """List the newest whole snapshot of every agent and partition.

    SIZE is the state, STORED what a restore reads, CHAIN the checkpoints it is spread over.
    """
    import orjson

    from sluicegate.state_view import print_states, state_words

    states = _read(context)
    if as_json:
        for state in states:
            typer.echo(orjson.dumps(state_words(state)).decode())
    elif states:
        print_states(states, _now())
    else:
        typer.echo("no state: no agent has made a checkpoint yet")


def show(
    context: typer.Context,
    agent: Agent,
    partition: Annotated[int, typer.Argument(metavar="PARTITION", min=0, help="Input partition.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON.")] = False,
) -> None:
    """Show one partition's snapshot: its sections with their versions and sizes, and why others are not used."""
    import orjson

    from sluicegate.state_view import print_state, state_words

    (state,) = _chosen(_read(context), agent, partition)
    if as_json:
        typer.echo(orjson.dumps(state_words(state)).decode())
    else:
        print_state(state, _now())


def drop(
    context: typer.Context,
    agent: Agent,
    partition: Annotated[
        int | None, typer.Argument(metavar="[PARTITION]", min=0, help="Input partition; by default all.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take an agent's state away, so that it starts cold; refused while the agent runs.

    It goes on at its committed offsets: windows that were open and models that had learned begin anew.
    """
    import asyncio

    from stream.state_admin import drop_states

    states = _chosen(_read(context), agent, partition)
    what = f"state of {agent}, {'partition' if len(states) == 1 else 'partitions'} " + ", ".join(
        str(s.partition) for s in states
    )
    if not yes:
        _ask(f"Drop the {what}?")
    count = asyncio.run(drop_states(invocation(context).settings.stream, states))
    typer.echo(f"dropped the {what}: {count} records")


def _read(context: typer.Context) -> list[StateSummary]:
    import asyncio

    from stream.state_admin import read_states

    return asyncio.run(read_states(invocation(context).settings.stream))


def _chosen(states: Sequence[StateSummary], agent: str, partition: int | None) -> list[StateSummary]:
    from sluicegate.problems import CommandProblem

    chosen = [s for s in states if s.agent == agent and partition in (None, s.partition)]
    if not chosen:
        where = "" if partition is None else f" partition {partition}"
        message = f"no state of {agent}{where} on the broker; see `sluicegate state list`"
        raise CommandProblem(message)
    return chosen


def _ask(question: str) -> None:
    from sluicegate.problems import NOT_MET, CommandProblem

    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        agreed = False
    if not agreed:
        message = "nothing dropped; answer y, or give --yes"
        raise CommandProblem(message, NOT_MET)


def _now() -> float:
    import time

    return time.time()  # noqa: TID251 - how old a snapshot is, for people
