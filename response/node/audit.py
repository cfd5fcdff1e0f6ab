"""What the agent of a node did with a command, as Actions on actions.v1."""

from __future__ import annotations

from dataclasses import asdict

from response.audit import action_id
from response.guard import Refusal
from response.node.captured import Captured
from schemas.action import Action, Outcome
from schemas.node_command import NodeCommand
from schemas.word import iso_time

# Of a command that could not be read, nobody knows what it was about.
_UNREAD = "node_command"


def told_by_node(
    command: NodeCommand | None, outcome: Outcome, why: Refusal, now: float, cluster: str, node: str
) -> Action:
    """The audit of one command."""
    target = f"node/{node}"
    response = command.response_id if command is not None else ""
    about = command.id if command is not None else why.message
    listed = () if command is None else ({"kind": "NodeCommand", **command.model_dump(mode="json")},)
    return Action(
        id=action_id(response, target, about, outcome, why.reason),
        response_id=response,
        alert_id=command.alert_id if command is not None else "",
        cluster=cluster,
        action=(command.action if command is not None else "") or _UNREAD,
        outcome=outcome,
        mode="enforce",
        target=target,
        reason=why.reason,
        message=why.message,
        manifests=listed,
        decided_tick=command.decided_tick if command is not None else 0,
        at=iso_time(now),
        expires_at=command.expires_at or None if command is not None else None,
    )


def told_of_capture(
    command: NodeCommand, address: str, found: Captured | Refusal, now: float, cluster: str, node: str
) -> Action:
    """The audit of one capture that ended, or could not be made."""
    if isinstance(found, Refusal):
        made = told_by_node(command, "node_failed", found, now, cluster, node)
    else:
        made = told_by_node(command, "node_captured", Refusal(found.ended, found.text(address)), now, cluster, node)
        made = made.model_copy(update={"manifests": ({"kind": "Capture", "node": node, **asdict(found)},)})
    # One for each capture of a command.
    return made.model_copy(update={"id": action_id(made.id, address)})


def told_of_expiry(response_id: str, entries: int, now: float, cluster: str, node: str) -> Action:
    """The audit of what the kernel forgot by itself."""
    target = f"node/{node}"
    return Action(
        id=action_id(response_id, target, "expired", iso_time(now)),
        response_id=response_id,
        alert_id="",
        cluster=cluster,
        action=_UNREAD,
        outcome="node_expired",
        mode="enforce",
        target=target,
        reason="expired",
        message=f"{entries} entries: their time to live has passed",
        decided_tick=0,
        at=iso_time(now),
    )
