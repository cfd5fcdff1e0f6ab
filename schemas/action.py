"""The audit of responses: every step taken or refused, with its reason."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.response import Mode, ResponseDecision
from schemas.watch import MAX_PAIRS, WatchPair
from schemas.word import Word

Outcome = Literal[
    "proposed", "applied", "refused", "failed", "reverted", "expired", "observed",
    # What operators said.
    "approved", "rejected", "extended", "allowed", "disallowed", "stopped", "resumed",
    # What upkeep did or found.
    "cancelled", "released", "repaired", "drifted", "missed",
    # What packets said of an applied containment.
    "effective", "quiet", "ineffective", "unknown",
    # What the agent of a node did with a signed command.
    "node_set", "node_lifted", "node_refused", "node_failed", "node_expired", "node_captured",
]  # fmt: skip


class Action(Word):
    """One step of a response on actions.v1."""

    type: Literal["action"] = "action"
    schema_version: Literal[1] = 1
    id: str = Field(description="hash of response, action, target and outcome")
    response_id: str = Field(description="the decision that caused it")
    alert_id: str = Field(description="the alert that caused that")
    cluster: str = Field(description="where it happens")
    action: str = Field(description="action name; empty when no plan was made")
    outcome: Outcome = Field(description="what became of the step")
    mode: Mode = Field(description="mode of the decision")
    target: str = Field(description="namespace/pod or address that the step is about")
    reason: str = Field(description="one word: why this outcome")
    message: str = Field(description="the same in one sentence")
    manifests: tuple[dict[str, Any], ...] = Field((), description="objects rendered or applied")
    undo: tuple[dict[str, Any], ...] = Field((), description="steps that take it back")
    proof: dict[str, Any] | None = Field(None, description="proof as evaluated before the step")
    decided_tick: int = Field(description="tick of the alert, s since epoch")
    at: str = Field(description="wall-clock time of the step, ISO 8601, UTC")
    expires_at: str | None = Field(None, description="when it will be reverted, ISO 8601, UTC")
    operator: str | None = Field(None, description="who commanded it, where an operator did")
    command_id: str | None = Field(None, description="the operator's command, where one caused the step")
    level: int = Field(0, ge=0, description="how often the same subject was contained before and relapsed")
    decision: ResponseDecision | None = Field(
        None,
        description="the decision, on steps after which it is still needed: waiting for approval, applied, or overdue",
    )
    answered_s: float | None = Field(
        None, ge=0, description="s from the step that applied it to the last answered packet, where one was seen"
    )
    watch: Annotated[tuple[WatchPair, ...], Field(max_length=MAX_PAIRS)] = Field(
        (), description="flows that it means to cut, applied only: stage 1 says on watch.v1 what is still seen of them"
    )
