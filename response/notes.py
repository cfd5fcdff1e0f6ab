"""Steps of containments as Kubernetes Events on the pods that they touch, for people who look at the pod."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from response.ledger import Containment
from response.objects import MANAGED_LABEL, MANAGER
from response.plan import contains
from schemas.action import Action

# Outcomes worth an Event, by type; the rest is in the audit only.
_WORTH = {
    "applied": ("Warning", "Contained"),
    "proposed": ("Warning", "ContainmentProposed"),
    "failed": ("Warning", "ContainmentFailed"),
    "ineffective": ("Warning", "ContainmentIneffective"),
    "effective": ("Normal", "ContainmentEffective"),
    "missed": ("Warning", "ContainmentOverdue"),
    "repaired": ("Warning", "ContainmentRepaired"),
    "expired": ("Normal", "ContainmentEnded"),
    "released": ("Normal", "ContainmentEnded"),
    "reverted": ("Normal", "ContainmentEnded"),
    "cancelled": ("Normal", "ContainmentEnded"),
    "extended": ("Normal", "ContainmentExtended"),
}
# Of an action that stops nothing: the word must not say so.
_NOTED = ("Warning", "AttackNoted")
# What the API accepts in an Event's message.
_MAX_MESSAGE = 1024
# A workload of a thousand pods needs no thousand Events.
MAX_EVENTS = 10


def event_of(action: Action, known: Containment | None) -> Iterator[dict[str, Any]]:
    """Events of one step on its pods, at most `MAX_EVENTS`; their names follow from the step, so repeats meet."""
    kind = _WORTH.get(action.outcome)
    if kind is None:
        return
    if action.outcome == "applied" and not contains(action.action):
        kind = _NOTED
    proof = action.proof or (known.proof if known is not None else None) or {}
    for number, key in enumerate([str(item) for item in proof.get("pods", ())][:MAX_EVENTS]):
        namespace, _, name = key.partition("/")
        by = f" by {action.operator}" if action.operator else ""
        message = f"{action.action or 'containment'} {action.outcome}{by} ({action.reason}): {action.message}"
        yield {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{MANAGER}-{action.id[:24]}-{number}",
                "namespace": namespace,
                "labels": {MANAGED_LABEL: MANAGER},
            },
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name},
            "type": kind[0],
            "reason": kind[1],
            "message": message[:_MAX_MESSAGE],
            "source": {"component": MANAGER},
            "reportingComponent": MANAGER,
            "firstTimestamp": f"{action.at[:19]}Z",
            "lastTimestamp": f"{action.at[:19]}Z",
            "count": 1,
        }
