"""What really happened in the recorded hour against what was found in it."""

from __future__ import annotations

from typing import Any

from schemas.alert import Alert
from sluicegate.evaluation import grade
from tests.torture import hour
from tests.torture.answer import Replayed


def graded(run: Replayed, shifts: int, nodes: int = hour.NODES) -> dict[str, Any]:
    """Return hits, and in words what was missed or should not have been said."""
    lines, first = hour.truth(shifts, nodes)
    alerts = [Alert.decode(value) for value in run.answer.alerts.values()]
    found = grade(lines, first, alerts)
    missed = [f"missed: {g.line.kind} {g.line.src} to {g.line.dst} at {g.line.start_s:.0f} s"
              for g in found.lines if g.outcome == "miss"]  # fmt: skip
    false = [f"false alert: {alert.explanation}" for alert in found.false_alerts]
    return {"hits": found.count("hit"), "attacks": sum(line.expect == "alert" for line in lines),
            "alerts": len(run.answer.alerts), "incidents": len(run.answer.incidents), "rows": run.rows,
            "seconds": round(run.seconds, 1), "wrong": missed + false}  # fmt: skip
