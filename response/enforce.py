"""One decision through guards, plan and proof to what is done."""

from __future__ import annotations

from collections.abc import Iterator

from response.allowlist import refuse_allowed
from response.audit import NOBODY, Cause, told
from response.budgets import overrun, refuse_budget
from response.cluster_site import Site
from response.details import with_details
from response.drops import NODE_COMMAND, drops_of
from response.gateway import ClusterError
from response.guard import Refusal
from response.ledger import STANDING, time_to_live
from response.objects import EXPIRES_ANNOTATION, QUARANTINE_LABEL, RESPONSE_LABEL
from response.plan import Attempt, Plan, PlanContext, attack_pairs, climb, may_spare_dns
from response.prove import Claim, prove
from response.resolver import needs_approval
from schemas.action import Action
from schemas.policy.cluster import ClusterView
from schemas.response import ResponseDecision
from schemas.word import from_iso, iso_time

# A decision older than its deadline by this much is history, not a call to act.
STALE_AFTER_S = 3600


def carry_out(site: Site, decision: ResponseDecision, now: float, by: Cause = NOBODY) -> Iterator[Action]:
    """Do what a decision asks for in its mode; cluster errors become `failed` actions."""
    refusal = _refuse(site, decision, now, by)
    if refusal is not None:
        yield told(decision, "", "refused", refusal, now, by=by)
        return
    try:
        switched = site.kill_switch() if decision.mode == "enforce" else ""
        present = with_details(site.gateway.view(), decision, site.gateway, site.settings)
    except ClusterError as error:
        yield told(decision, "", "failed", Refusal(error.reason, str(error)), now, by=by)
        return
    if switched:
        yield told(decision, "", "refused", Refusal("stopped", switched), now, by=by)
        return
    level = site.ledger.level(decision, now, site.settings.upkeep.relapse_window_s)
    expires_at = _expiry(site, present, decision, now, level)
    view = present.without(RESPONSE_LABEL, QUARANTINE_LABEL, decision.id)
    ladder: list[str] = []
    for name in decision.actions:
        refusal = refuse_allowed(decision, name, site.ledger.allowed(now))
        if refusal is not None:
            yield told(decision, name, "refused", refusal, now, by=by)
        else:
            ladder.append(name)
    if decision.actions and not ladder:
        return
    wanted = decision.model_copy(update={"actions": tuple(ladder)})
    for attempt in climb(PlanContext(wanted, view, site.settings, expires_at, site.edges)):
        yield _attempted(site, decision, attempt, present, now, by, expires_at, level)


def _attempted(
    site: Site, decision: ResponseDecision, attempt: Attempt, present: ClusterView, now: float, by: Cause,
    expires_at: str, level: int,
) -> Action:  # fmt: skip
    refusal = attempt.refusal
    if refusal is None and attempt.plan is not None and decision.mode == "enforce":
        refusal = refuse_budget(attempt.plan, decision.id, site.ledger, present, now, site.settings.budgets)
    if refusal is not None:
        return told(decision, attempt.action, "refused", refusal, now, attempt, by)
    if decision.mode == "enforce" and attempt.plan is not None and not attempt.plan.enforced:
        name = attempt.plan.dialect
        message = f"{name} is not set to be enforced here: set response.dialects.{name} to enforce if it is"
        return told(decision, attempt.action, "proposed", Refusal("not_enforced", message), now, attempt, by)
    alone = decision.mode == "enforce" and by.operator is None
    if alone and needs_approval(decision, attempt.proof, present, site.settings, spares=may_spare_dns(attempt.action)):
        waiting = decision.model_copy(update={"mode": "approve"})
        why = Refusal("dns_approval", "it cuts the DNS of a pod, which is down without: an operator must say so")
        return told(waiting, attempt.action, "proposed", why, now, attempt, by)
    if decision.mode == "enforce":
        return _apply(site, decision, attempt, expires_at, now, by, level)
    awaiting = Refusal("awaiting_approval" if decision.mode == "approve" else "dry_run", "")
    return told(decision, attempt.action, "proposed", awaiting, now, attempt, by)


def _refuse(site: Site, decision: ResponseDecision, now: float, by: Cause) -> Refusal | None:
    known = site.ledger.get(decision.id)
    if known is not None and known.phase in ("reverted", "rejected"):
        return Refusal(known.phase, f"{known.message}; it is not applied again")
    if decision.mode != "enforce":
        return None
    if site.ledger.stopped:
        return Refusal("stopped", site.ledger.stopped)
    if by.operator is None and now > decision.decided_tick + decision.deadline_s + STALE_AFTER_S:
        return Refusal("stale", "the decision is too old to act on; the attack may be long over")
    return overrun(site.ledger, now, site.settings.budgets)


def _apply(
    site: Site, decision: ResponseDecision, attempt: Attempt, expires_at: str, now: float, by: Cause, level: int
) -> Action:
    plan = attempt.plan
    if plan is None:
        message = "an attempt without refusal has a plan"
        raise ValueError(message)
    try:
        for manifest in plan.manifests:
            site.gateway.apply(manifest)
        problem = _reprove(site, decision, plan)
    except ClusterError as error:
        problem = Refusal(error.reason, str(error))
    if problem is None:
        done = Refusal(attempt.proof.reason if attempt.proof is not None else "proven", plan.summary)
        return told(decision, plan.action, "applied", done, now, attempt, by, expires_at, level)
    left = site.undo(plan.undo)
    if left:
        problem = Refusal(problem.reason, f"{problem.message}; and could not be taken back: {'; '.join(left)}")
    return told(decision, plan.action, "failed", problem, now, attempt, by)


def _reprove(site: Site, decision: ResponseDecision, plan: Plan) -> Refusal | None:
    """Prove again on what the cluster holds now: others may have changed policies meanwhile."""
    if plan.unproven:
        return None
    after = site.gateway.view()
    before = after.without(RESPONSE_LABEL, QUARANTINE_LABEL, decision.id)
    drops = drops_of(plan.manifests)
    if all(item["kind"] == NODE_COMMAND for item in plan.manifests):
        # It changes nothing in the cluster; what an earlier rung has there is not its doing, and goes when this holds.
        after = before
    claim = Claim(before, after, plan.pods, attack_pairs(decision), plan.isolates, plan.dialect, drops, plan.spares_dns)
    proof = prove(claim, site.settings)
    return None if proof.holds else Refusal(proof.reason, f"after applying: {proof.message}")


def _expiry(site: Site, view: ClusterView, decision: ResponseDecision, now: float, level: int) -> str:
    """When the response ends: as already written on its objects, so that repeats do not prolong it."""
    known = site.ledger.get(decision.id)
    if known is not None and known.phase in STANDING and seconds(known.expires_at) > now:
        # What nodes were told is in no object of the cluster.
        return known.expires_at
    for policy in (*view.policies, *view.objects):
        if policy.metadata.labels.get(RESPONSE_LABEL) == decision.id:
            written = policy.metadata.annotations.get(EXPIRES_ANNOTATION, "")
            if seconds(written) > now:
                return written
    return iso_time(now + time_to_live(decision.ttl_s, level, site.settings.upkeep.escalation_s))


def seconds(text: str) -> float:
    """Seconds since epoch of a time in the cluster; 0 for what is none."""
    try:
        return from_iso(text)
    except ValueError:
        return 0.0
