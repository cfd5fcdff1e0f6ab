"""Steps of responses as Actions, the words of the audit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from response.guard import Refusal
from response.plan import Attempt
from schemas.action import Action, Outcome
from schemas.response import ResponseDecision
from schemas.word import iso_time

# Steps after which somebody may have to carry the decision out, prove it again, or say that nothing was done.
_STILL_NEEDED: frozenset[Outcome] = frozenset({"proposed", "applied", "failed", "refused"})


@dataclass(frozen=True, slots=True)
class Cause:
    """Which operator caused a step, by which command; nobody where the responder acts by itself."""

    operator: str | None = None
    command_id: str | None = None


NOBODY = Cause()


def told(
    decision: ResponseDecision,
    action: str,
    outcome: Outcome,
    why: Refusal,
    now: float,
    attempt: Attempt | None = None,
    by: Cause = NOBODY,
    expires_at: str | None = None,
    level: int = 0,
) -> Action:
    """The audit of one step of a decision."""
    plan = attempt.plan if attempt is not None else None
    proof = attempt.proof if attempt is not None else None
    target = plan.target if plan is not None else _subject(decision)
    summary = plan.summary if plan is not None else ""
    return Action(
        id=action_id(decision.id, action, target, outcome, why.reason, summary, by.command_id or ""),
        response_id=decision.id,
        alert_id=decision.alert_id,
        cluster=decision.cluster,
        action=action,
        outcome=outcome,
        mode=decision.mode,
        target=target,
        reason=why.reason,
        message=why.message or summary,
        manifests=plan.manifests if plan is not None else (),
        undo=plan.undo if plan is not None else (),
        proof=proof.model_dump(mode="json") if proof is not None else None,
        decided_tick=decision.decided_tick,
        at=iso_time(now),
        expires_at=expires_at,
        operator=by.operator,
        command_id=by.command_id,
        level=level,
        decision=decision if outcome in _STILL_NEEDED else None,
        watch=attempt.watch if attempt is not None and outcome == "applied" else (),
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
