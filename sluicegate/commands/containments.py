"""``sluicegate containments``: what responses are at, and operators' commands about them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluicegate.invocation import invocation

if TYPE_CHECKING:
    from response.ledger import Containment
    from schemas.action import Action
    from schemas.command import Verb

Cluster = Annotated[str, typer.Option(help="Name of the cluster, as in alerts.")]
Response = Annotated[str, typer.Argument(help="Id of the response, or its first letters if no other begins so.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit.")]
Wait = Annotated[float, typer.Option(min=0, max=600, help="Seconds to wait for the responder's answer.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]


def list_containments(
    context: typer.Context,
    cluster: Cluster = "local",
    everything: Annotated[bool, typer.Option("--all", help="Ended ones, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what is contained now and what waits for approval, from the audit on actions.v1."""
    import orjson

    from response.ledger import STANDING, WAITING
    from sluicegate.containment_view import print_containments, words_of

    found, _ = _ledger(context, cluster, "")
    shown = [item for item in found if everything or item.phase in STANDING | WAITING]
    if as_json:
        for item in shown:
            typer.echo(orjson.dumps(words_of(item)))
    else:
        print_containments(shown, _now())


def show(context: typer.Context, response: Response, cluster: Cluster = "local", as_json: AsJson = False) -> None:
    """Show one response: its phase, what was written into the cluster, and the proof."""
    import orjson

    from sluicegate.containment_view import print_containment, words_of

    found, _ = _ledger(context, cluster, "")
    item = _one(found, response)
    if as_json:
        typer.echo(orjson.dumps(words_of(item), option=orjson.OPT_INDENT_2))
    else:
        print_containment(item, _now())


def explain(context: typer.Context, response: Response, cluster: Cluster = "local") -> None:
    """Tell a response's story: the decision, every step, every refusal with its reason, and what comes next."""
    from sluicegate.containment_view import print_story

    found, steps = _ledger(context, cluster, response)
    item = _one(found, response)
    print_story(item, [step for step in steps if step.response_id == item.response_id], _now())


def record(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(help="Id of an incident, an alert or a response.")],
    cluster: Cluster = "local",
    as_json: AsJson = False,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of printing.")] = None,
) -> None:
    """Export the record of an incident: timeline, evidence, actions, approvals, lessons; Markdown or JSON."""
    from sluicegate.incident_export import export_record

    settings = invocation(context).settings
    text = export_record(settings.stream.kafka, cluster, subject, _now(), as_json=as_json)
    if output is not None:
        output.write_text(text, encoding="utf-8")
    else:
        typer.echo(text, nl=False)


def approve(
    context: typer.Context, response: Response, reason: Reason = "", cluster: Cluster = "local", wait: Wait = 10
) -> None:
    """Approve a response that waits for it; it is carried out once enough different persons did."""
    _command(context, "approve", response, cluster, reason, wait)


def reject(
    context: typer.Context, response: Response, reason: Reason = "", cluster: Cluster = "local", wait: Wait = 10
) -> None:
    """Refuse a response that waits for approval; it is not proposed again unless somebody approves it."""
    _command(context, "reject", response, cluster, reason, wait)


def revert(
    context: typer.Context, response: Response, reason: Reason = "", cluster: Cluster = "local", wait: Wait = 10
) -> None:
    """Take back everything that a response has in the cluster; it is not applied again."""
    _command(context, "revert", response, cluster, reason, wait)


def extend(
    context: typer.Context,
    response: Response,
    duration: Annotated[int, typer.Option("--for", min=1, metavar="SECONDS", help="Keep it for so long from now.")],
    reason: Reason = "",
    cluster: Cluster = "local",
    wait: Wait = 10,
) -> None:
    """Keep a containment until a time from now; shorter than what is left shortens it."""
    _command(context, "extend", response, cluster, reason, wait, duration)


def stop(context: typer.Context, reason: Reason, cluster: Cluster = "local", wait: Wait = 10) -> None:
    """Kill switch: take back everything of ours, and apply nothing until `containments resume`."""
    order(context, "stop", "*", cluster, reason, wait)


def resume(context: typer.Context, reason: Reason = "", cluster: Cluster = "local", wait: Wait = 10) -> None:
    """End a stop, whether an operator or an exhausted budget caused it."""
    order(context, "resume", "*", cluster, reason, wait)


def order(
    context: typer.Context, verb: Verb, target: str, cluster: str, reason: str, wait: float, seconds: int = 0
) -> None:
    """Sign and send one command; print what the responder says to it. Exit code 1 if it was not carried out."""
    from sluicegate.command_sender import Wish, make_command, sent, signer_of
    from sluicegate.containment_view import print_step
    from sluicegate.terminal import note

    settings = invocation(context).settings
    command = make_command(Wish(verb, target, cluster, reason, seconds), signer_of(settings.response.commands), _now())
    answers = sent(settings.stream.kafka, command, wait)
    for step in answers:
        print_step(step)
    if not answers:
        note(
            f"no responder of cluster {cluster} answered within {wait:g} s; the command is on the broker and is obeyed "
            f"if one reads it within {settings.response.commands.fresh_s:g} s"
        )
    if not answers or any(step.outcome in ("refused", "failed") for step in answers):
        raise typer.Exit(1)


def _command(
    context: typer.Context, verb: Verb, response: str, cluster: str, reason: str, wait: float, seconds: int = 0
) -> None:
    found, _ = _ledger(context, cluster, "")
    order(context, verb, _one(found, response).response_id, cluster, reason, wait, seconds)


def _ledger(context: typer.Context, cluster: str, response: str) -> tuple[list[Containment], list[Action]]:
    import asyncio

    from sluicegate.action_reader import read_ledger

    kafka = invocation(context).settings.stream.kafka
    ledger, steps = asyncio.run(
        read_ledger(kafka, cluster, _now(), lambda step: bool(response) and step.response_id.startswith(response))
    )
    return list(ledger.all()), steps


def _one(found: list[Containment], response: str) -> Containment:
    from sluicegate.problems import CommandProblem

    fitting = [item for item in found if item.response_id == response] or [
        item for item in found if item.response_id.startswith(response)
    ]
    if len(fitting) == 1:
        return fitting[0]
    what = f"{len(fitting)} responses begin with {response!r}" if fitting else f"no response {response!r} in the audit"
    message = f"{what}; see sluicegate containments list --all"
    raise CommandProblem(message)


def _now() -> float:
    return time.time()  # noqa: TID251 - when the operator looks
