"""From an alert to a decision, by the policy file alone: equal alerts and files give equal decisions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from response.policyfile import Category, CategoryRule, DecisionPolicy, MatrixRow
from schemas.alert import CONTAINMENT_OVERDUE, Alert
from schemas.finding import SEVERITIES, Severity
from schemas.response import Mode, ResponseDecision

MODES: tuple[Mode, ...] = ("observe", "dry-run", "approve", "enforce")
# 128 bits: no two episodes of a cluster's life meet, and the id still fits a label value.
_ID_HEX_DIGITS = 32


def decide(alert: Alert, policy: DecisionPolicy) -> ResponseDecision | None:
    """The response to an alert's revision; None for a closed episode, which needs none any more, and for
    a response that is late: that is for people.

    Later revisions of an episode give the same id as long as the ladder is the same, so repeats meet what was done.
    """
    if (alert.status == "closed" and alert.revision > 1) or alert.detector == CONTAINMENT_OVERDUE:
        return None
    category: Category = policy.kinds.get(alert.kind) or policy.kinds.get(alert.detector) or "other"
    rule, row = policy.rule(category), policy.row(alert, category)
    mode, why = _mode(alert, category, rule, row, policy)
    actions = rule.actions if row is None or row.actions is None else row.actions
    deadline = rule.deadline_s if row is None or row.deadline_s is None else row.deadline_s
    return ResponseDecision(
        id=_response_id(alert.id, actions),
        alert_id=alert.id,
        alert_revision=alert.revision,
        cluster=alert.cluster,
        detector=alert.detector,
        kind=alert.kind,
        severity=_graver(alert.severity, rule.severity),
        confidence=alert.confidence,
        category=category,
        mode=mode,
        actions=actions,
        attackers=alert.attackers,
        victims=alert.victims,
        spoofable=alert.spoofable,
        decided_tick=alert.tick,
        deadline_s=deadline,
        ttl_s=rule.ttl_s if row is None or row.ttl_s is None else row.ttl_s,
        reason=f"{alert.kind} is {category}{f', row {row.name}' if row is not None else ''}; mode {mode}: {why}",
        approvals=row.approvals if row is not None else 1,
        approvers=row.approvers if row is not None else (),
    )


def decide_besides(alert: Alert, decision: ResponseDecision, policy: DecisionPolicy) -> tuple[ResponseDecision, ...]:
    """What the file wants done besides the ladder of a decision on an alert: each a response of its own.

    A ladder ends with its first rung that can be had; a capture as its first rung would contain nothing.
    """
    rule, row = policy.rule(decision.category), policy.row(alert, decision.category)
    wanted = rule.also if row is None or row.also is None else row.also
    return tuple(
        decision.model_copy(update={"id": _response_id(alert.id, ("also", name)), "actions": (name,)})
        for name in dict.fromkeys(wanted)
    )


def is_besides(decision: ResponseDecision) -> bool:
    """Whether a decision is one that is carried out besides a ladder: whether that contains, or when, is not its."""
    return any(decision.id == _response_id(decision.alert_id, ("also", name)) for name in decision.actions)


def _mode(
    alert: Alert, category: Category, rule: CategoryRule, row: MatrixRow | None, policy: DecisionPolicy
) -> tuple[Mode, str]:
    """The strictest mode that any line asks for, and which line that is."""
    if row is not None and row.mode is not None:
        own = [name for name in _namespaces(alert) if name in policy.namespaces]
        asked = [(row.mode, f"row {row.name}"), *(_namespace_mode(name, policy) for name in own)]
    else:
        asked = [_namespace_mode(name, policy) for name in _namespaces(alert)] or [(policy.mode, "default")]
        if rule.mode is not None:
            asked.append((rule.mode, f"category {category}"))
    if alert.confidence < policy.minimum_confidence:
        asked.append(("observe", f"confidence below {policy.minimum_confidence:g}"))
    if alert.rule is not None:
        asked.append(("dry-run", "a rule alone alerts, acting needs corroboration"))
    return min(asked, key=lambda item: MODES.index(item[0]))


def _namespace_mode(name: str, policy: DecisionPolicy) -> tuple[Mode, str]:
    own = policy.namespaces.get(name)
    return (own.mode, f"namespace {name}") if own is not None else (policy.mode, "default")


def _namespaces(alert: Alert) -> Iterable[str]:
    return sorted({end.namespace for end in (*alert.attackers, *alert.victims) if end.namespace})


def _graver(one: Severity, other: Severity) -> Severity:
    return max(one, other, key=SEVERITIES.index)


def _response_id(alert_id: str, actions: tuple[str, ...]) -> str:
    digest = hashlib.sha256("\x1f".join((alert_id, *actions)).encode())
    return digest.hexdigest()[:_ID_HEX_DIGITS]
