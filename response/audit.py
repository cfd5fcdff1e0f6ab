"""Steps of responses as Actions, the words of the audit."""

from __future__ import annotations

import hashlib

from response.guard import Refusal
from response.plan import Attempt
from schemas.action import Action, Outcome
from schemas.response import ResponseDecision
from schemas.word import iso_time


def told(
    decision: ResponseDecision,
    action: str,
    outcome: Outcome,
    why: Refusal,
    now: float,
    attempt: Attempt | None = None,
    operator: str | None = None,
    expires_at: str | None = None,
) -> Action:
    """The audit of one step of a decision."""
    plan = attempt.plan if attempt is not None else None
    proof = attempt.proof if attempt is not None else None
    target = plan.target if plan is not None else _subject(decision)
    return Action(
        id=action_id(decision.id, action, target, outcome, why.reason, plan.summary if plan is not None else ""),
        response_id=decision.id,
        alert_id=decision.alert_id,
        cluster=decision.cluster,
        action=action,
        outcome=outcome,
        mode=decision.mode,
        target=target,
        reason=why.reason,
        message=why.message or (plan.summary if plan is not None else ""),
        manifests=plan.manifests if plan is not None else (),
        undo=plan.undo if plan is not None else (),
        proof=proof.model_dump(mode="json") if proof is not None else None,
        decided_tick=decision.decided_tick,
        at=iso_time(now),
        expires_at=expires_at,
        operator=operator,
    )


def _subject(decision: ResponseDecision) -> str:
    for end in (*decision.attackers, *decision.victims):
        if end.pod is not None:
            return f"{end.namespace}/{end.pod}"
        if end.ip:
            return end.ip
    return ""


def action_id(*parts: str) -> str:
    """A stable id of what a step was about."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]
