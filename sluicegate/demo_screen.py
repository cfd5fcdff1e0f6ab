"""What the demo shows, gathers and concludes; the same whether a broker ran or not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console

from schemas.action import Action
from schemas.alert import Alert
from schemas.event_codec import EventMessage
from schemas.events import FlowMark
from sluicegate.alert_view import print_alert
from sluicegate.cases import CaseFolder
from sluicegate.evaluation import grade
from sluicegate.proposals import print_action
from sluicegate.terminal import cell, table


@dataclass
class Counted:
    """What went in: messages, rows of all kinds, flows opened."""

    messages: int = 0
    rows: int = 0
    flows: int = 0

    def add(self, message: EventMessage) -> None:
        """Count one message."""
        self.messages += 1
        self.rows += sum(message.rows(kind) for kind in message.batches)
        if "flow" in message.batches:
            marks = message.batches["flow"].column("marks").to_numpy()
            self.flows += int(np.count_nonzero(marks & FlowMark.OPENED))


@dataclass
class DemoScreen:
    """Prints as things happen; ``alerts`` holds every revision that was seen."""

    out: Console
    case: CaseFolder
    counted: Counted = field(default_factory=Counted)
    alerts: list[Alert] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def progress(self, text: str) -> None:
        """Say what is waited for or done, and when."""
        self.out.print(cell(f"[{time.monotonic() - self.started:5.1f} s] {text}", "dim"))

    def alert(self, alert: Alert) -> None:
        """Show an alert when it opens; later revisions are only kept."""
        self.alerts.append(alert)
        if alert.revision == 1:
            print_alert(self.out, alert)

    def action(self, action: Action) -> None:
        """Show what would contain an alert, or why nothing is proposed."""
        self.actions.append(action)
        kind = next((a.kind for a in self.alerts if a.id == action.alert_id), "alert")
        self.out.print(cell(f"  response to {kind} ({action.mode})", "bold"))
        print_action(self.out, action)

    def summary(self, timings: Sequence[str], seconds: float) -> bool:
        """Print what was expected and found, and the figures; tell whether every expected alert came.

        Args:
            timings: lines about latency, each saying what was measured.
            seconds: wall-clock time in which the events were sent or processed.
        """
        case = self.case.case
        graded = grade(case.expect, case.first, self.alerts)
        made = table("expected", "from", "outcome", "s of capture to detect", right=("s of capture to detect",))
        for line in graded.lines:
            if line.line.expect == "alert":
                style = "green" if line.outcome == "hit" else "red"
                delay = "" if line.time_to_detect_s is None else f"{line.time_to_detect_s:.1f}"
                made.add_row(cell(line.line.kind), cell(line.line.src), cell(line.outcome, style), cell(delay))
        self.out.print(made)
        counted, episodes = self.counted, len({alert.id for alert in self.alerts})
        rate = f", {counted.rows / seconds:,.0f} rows/s over {seconds:.1f} s" if seconds > 0 else ""
        self.out.print(
            cell(f"{counted.flows:,} flows in {counted.rows:,} rows and {counted.messages:,} messages{rate}")
        )
        self.out.print(
            cell(f"{episodes} alerts in {len(self.alerts)} revisions, {len(graded.false_alerts)} of them false; "
                 f"{sum(a.outcome == 'proposed' for a in self.actions)} policies proposed, "
                 f"{sum(a.outcome == 'refused' for a in self.actions)} refused with a reason")
        )  # fmt: skip
        for text in timings:
            self.out.print(cell(text))
        missing = graded.count("miss")
        if missing:
            self.out.print(cell(f"{missing} expected alerts are missing", "bold red"))
        return not missing
