"""One decision through plan, guard and proof to what is done, and back again: every step is an Action.

Time is an argument. Nothing is remembered that the cluster does not say itself, but which actions were already told;
so a restart forgets nothing that matters, and what is in the cluster expires even if it was another process's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Lock
from typing import Any, TypeVar

from response.audit import action_id, told
from response.gateway import ClusterError, Gateway, Managed
from response.guard import Refusal
from response.objects import EXPIRES_ANNOTATION, QUARANTINE_LABEL, RESPONSE_LABEL
from response.plan import Attempt, Plan, PlanContext, attack_pairs, climb
from response.prove import Claim, prove
from response.settings import ResponseSettings
from schemas.action import Action, Outcome
from schemas.policy.cluster import ClusterView
from schemas.response import ResponseDecision
from schemas.word import from_iso, iso_time

# Told actions are only remembered to not repeat them; at a few hundred bytes each this is a few megabytes.
MAX_REMEMBERED = 10_000
# A decision older than its deadline by this much is history, not a call to act.
STALE_AFTER_S = 3600
T = TypeVar("T")


class Responder:
    """Acts on decisions for one cluster. Calls from several threads are carried out one after the other."""

    def __init__(self, gateway: Gateway, settings: ResponseSettings, cluster: str) -> None:
        self._gateway = gateway
        self._settings = settings
        self._cluster = cluster
        self._lock = Lock()
        self._told: OrderedDict[str, str] = OrderedDict()
        self._waiting: OrderedDict[str, ResponseDecision] = OrderedDict()
        self._reverted: OrderedDict[str, str] = OrderedDict()

    def respond(self, decision: ResponseDecision, now: float) -> tuple[Action, ...]:
        """Do what a decision asks for in its mode; `now` is seconds since the epoch.

        Repeats of a decision give only what was not told before. Cluster errors become `failed` actions.
        """
        with self._lock:
            return self._respond(decision, now)

    def _respond(self, decision: ResponseDecision, now: float) -> tuple[Action, ...]:
        if self._cluster and decision.cluster != self._cluster:
            # Several clusters may share a broker; equal pod names in another one must never be touched.
            why = Refusal("other_cluster", f"this responder serves cluster {self._cluster!r}, not {decision.cluster!r}")
            return self._tell([told(decision, "", "refused", why, now)])
        if decision.mode == "observe":
            return self._tell([told(decision, "", "observed", Refusal("observe", decision.reason), now)])
        if decision.mode == "approve":
            _remember(self._waiting, decision.id, decision)
        return self._tell(self._carry_out(decision, now, None))

    def approve(self, response_id: str, operator: str, now: float) -> tuple[Action, ...]:
        """Carry out a response that waits for approval; nothing if none of that id waits."""
        with self._lock:
            decision = self._waiting.pop(response_id, None)
            if decision is None:
                return ()
            approved = decision.model_copy(update={"mode": "enforce"})
            return self._tell(self._carry_out(approved, now, operator))

    def revert(self, response_id: str, operator: str, now: float) -> tuple[Action, ...]:
        """Take back everything that a response has in the cluster; it is not applied again."""
        why = Refusal("command", f"reverted by {operator}")
        with self._lock:
            self._waiting.pop(response_id, None)
            _remember(self._reverted, response_id, operator)
            return self._take_back(lambda item: item.response_id == response_id, "reverted", why, now, operator)

    def expire(self, now: float) -> tuple[Action, ...]:
        """Take back every response whose time has come, also those that another process applied.

        An object of ours without a readable expiry counts as expired: nothing of ours stays for ever.
        """
        why = Refusal("expired", "its time to live has passed")
        with self._lock:
            return self._take_back(lambda item: _seconds(item.expires_at) <= now, "expired", why, now, None)

    def _carry_out(self, decision: ResponseDecision, now: float, operator: str | None) -> Iterator[Action]:
        refusal = self._refuse(decision, now)
        if refusal is not None:
            yield told(decision, "", "refused", refusal, now, operator=operator)
            return
        try:
            present = self._gateway.view()
        except ClusterError as error:
            yield told(decision, "", "failed", Refusal(error.reason, str(error)), now, operator=operator)
            return
        expires_at = _expiry(present, decision, now)
        view = present.without(RESPONSE_LABEL, QUARANTINE_LABEL, decision.id)
        for attempt in climb(PlanContext(decision, view, self._settings, expires_at)):
            if attempt.refusal is not None:
                yield told(decision, attempt.action, "refused", attempt.refusal, now, attempt, operator)
            elif decision.mode == "enforce":
                yield self._apply(decision, attempt, expires_at, now, operator)
            else:
                awaiting = Refusal("awaiting_approval" if decision.mode == "approve" else "dry_run", "")
                yield told(decision, attempt.action, "proposed", awaiting, now, attempt, operator)

    def _refuse(self, decision: ResponseDecision, now: float) -> Refusal | None:
        if decision.mode != "enforce":
            return None
        operator = self._reverted.get(decision.id)
        if operator is not None:
            return Refusal("reverted", f"{operator} reverted this response; it is not applied again")
        if now > decision.decided_tick + decision.deadline_s + STALE_AFTER_S:
            return Refusal("stale", "the decision is too old to act on; the attack may be long over")
        return None

    def _apply(
        self, decision: ResponseDecision, attempt: Attempt, expires_at: str, now: float, operator: str | None
    ) -> Action:
        plan = attempt.plan
        if plan is None:
            message = "an attempt without refusal has a plan"
            raise ValueError(message)
        try:
            for manifest in plan.manifests:
                self._gateway.apply(manifest)
            problem = self._reprove(decision, plan)
        except ClusterError as error:
            problem = Refusal(error.reason, str(error))
        if problem is None:
            done = Refusal("proven", attempt.plan.summary if attempt.plan else "")
            return told(decision, plan.action, "applied", done, now, attempt, operator, expires_at)
        left = self._undo(plan.undo)
        if left:
            problem = Refusal(problem.reason, f"{problem.message}; and could not be taken back: {'; '.join(left)}")
        return told(decision, plan.action, "failed", problem, now, attempt, operator)

    def _reprove(self, decision: ResponseDecision, plan: Plan) -> Refusal | None:
        """Prove again on what the cluster holds now: others may have changed policies meanwhile."""
        after = self._gateway.view()
        before = after.without(RESPONSE_LABEL, QUARANTINE_LABEL, decision.id)
        claim = Claim(before, after, plan.pods, attack_pairs(decision), plan.isolates)
        proof = prove(claim, self._settings)
        return None if proof.holds else Refusal(proof.reason, f"after applying: {proof.message}")

    def _undo(self, steps: Iterable[Mapping[str, Any]]) -> list[str]:
        problems: list[str] = []
        for step in steps:
            try:
                self._gateway.undo(step)
            except ClusterError as error:
                problems.append(str(error))
        return problems

    def _take_back(
        self, chosen: Callable[[Managed], bool], outcome: Outcome, why: Refusal, now: float, operator: str | None
    ) -> tuple[Action, ...]:
        try:
            found = [item for item in self._gateway.managed() if chosen(item)]
        except ClusterError as error:
            nothing = Managed("", "", int(now), "", (), "")
            return (self._taken(nothing, "failed", Refusal(error.reason, str(error)), now, operator),)
        actions: list[Action] = []
        for item in found:
            problems = self._undo(item.undo)
            if problems:
                failure = Refusal("not_reverted", "; ".join(problems))
                actions.append(self._taken(item, "failed", failure, now, operator))
                continue
            for key in [key for key, response in self._told.items() if response == item.response_id]:
                del self._told[key]
            actions.append(self._taken(item, outcome, why, now, operator))
        return tuple(actions)

    def _taken(self, item: Managed, outcome: Outcome, why: Refusal, now: float, operator: str | None) -> Action:
        return Action(
            id=action_id(item.response_id, "", item.target, outcome, iso_time(now)),
            response_id=item.response_id,
            alert_id=item.alert_id,
            cluster=self._cluster,
            action="",
            outcome=outcome,
            mode="enforce",
            target=item.target,
            reason=why.reason,
            message=why.message,
            undo=item.undo,
            decided_tick=item.decided_tick,
            at=iso_time(now),
            operator=operator,
        )

    def _tell(self, actions: Iterable[Action]) -> tuple[Action, ...]:
        fresh: list[Action] = []
        for action in actions:
            if action.id not in self._told:
                fresh.append(action)
            _remember(self._told, action.id, action.response_id)
        return tuple(fresh)


def _expiry(view: ClusterView, decision: ResponseDecision, now: float) -> str:
    """When the response ends: as already written on its objects, so that repeats do not prolong it."""
    for policy in view.policies:
        if policy.metadata.labels.get(RESPONSE_LABEL) == decision.id:
            written = policy.metadata.annotations.get(EXPIRES_ANNOTATION, "")
            if _seconds(written) > now:
                return written
    return iso_time(now + decision.ttl_s)


def _seconds(text: str) -> float:
    try:
        return from_iso(text)
    except ValueError:
        return 0.0


def _remember(memory: OrderedDict[str, T], key: str, value: T) -> None:
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > MAX_REMEMBERED:
        memory.popitem(last=False)
