"""What a policy file would decide about given alerts."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from response.policyfile import load_policy
from response.settings import ResponseSettings
from schemas.alert import Alert, decode_alert_record
from schemas.response import ResponseDecision
from schemas.word import MAX_WORD_BYTES, WordError, iso_time
from sluicegate.alert_view import endpoints_text, time_text
from sluicegate.inputs import read_inventory
from sluicegate.problems import CommandProblem
from sluicegate.proposals import Proposals, print_action
from sluicegate.state_view import age_text
from sluicegate.terminal import cell, console, shortened, table, wrapped
from stream.stages import DecideStage


def read_alert_lines(path: Path) -> Iterator[Alert]:
    """Alerts from JSON lines, in their order.

    Raises:
        CommandProblem: a line is no record of alerts.v1; it is named.
    """
    if str(path) == "-":
        yield from _alerts(sys.stdin.buffer, "standard input")
        return
    with path.open("rb") as file:
        yield from _alerts(file, str(path))


def trial(policy: Path, alerts: Iterator[Alert]) -> list[ResponseDecision]:
    """What is decided about alerts, as the worker decides it.

    Raises:
        PolicyFileError, CommandProblem: a file cannot be used.
    """
    stage = DecideStage(load_policy(policy))
    return [decision for alert in alerts for decision in stage.feed(alert)]


def print_trial(decided: Sequence[ResponseDecision], settings: ResponseSettings, inventory: Path | None) -> None:
    """Print a row for each decision, its reason, and, with an inventory, what would be written.

    Raises:
        CommandProblem: the inventory cannot be used.
    """
    out = console()
    rows = table("TIME (UTC)", "KIND", "WHO", "CATEGORY", "MODE", "DEADLINE", "APPROVAL", "LADDER")
    for decision in decided:
        rows.add_row(
            cell(time_text(iso_time(decision.decided_tick))),
            cell(decision.kind),
            cell(shortened(endpoints_text(decision.attackers), 40)),
            cell(decision.category),
            cell(decision.mode),
            cell("at once" if decision.deadline_s == 0 else age_text(decision.deadline_s)),
            cell(_approval(decision)),
            cell(", ".join(decision.actions) or "none"),
        )
    out.print(rows)
    objects = read_inventory(inventory) if inventory is not None else None
    for decision in decided:
        for line in wrapped(f"{decision.id[:8]} {decision.reason}", ""):
            out.print(cell(line))
        if objects is not None:
            for action in Proposals(settings, decision.cluster, objects).about(decision):
                print_action(out, action)
    out.print(cell(f"{len(decided)} decisions"))


def _approval(decision: ResponseDecision) -> str:
    if decision.mode != "approve":
        return "-"
    return f"{decision.approvals} of {', '.join(decision.approvers) or 'anyone with a key'}"


def _alerts(file: BinaryIO, name: str) -> Iterator[Alert]:
    number = 0
    while line := file.readline(MAX_WORD_BYTES + 2):
        number += 1
        if not line.strip():
            continue
        try:
            record = decode_alert_record(line)
        except WordError as error:
            message = f"{name}: line {number}: {error}"
            raise CommandProblem(message) from None
        if isinstance(record, Alert):
            yield record
