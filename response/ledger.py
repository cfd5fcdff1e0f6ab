"""What every containment is at: a state machine over the steps of the audit.

The ledger is made from actions.v1 alone: folding the same actions in the same order gives the same ledger, so a
restarted responder knows what its predecessor knew. What is in the cluster is the cluster's to say; `reconcile` brings
the two together.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from response.plan import contains, harmless
from schemas.action import Action, Outcome
from schemas.response import ResponseDecision
from schemas.word import from_iso

Phase = Literal[
    "proposed", "approved", "applied", "effective", "quiet", "ineffective", "unknown",
    "failed", "rejected", "expired", "released", "reverted", "cancelled",
]  # fmt: skip
# Something of it is meant to be in the cluster.
STANDING: frozenset[Phase] = frozenset({"applied", "effective", "quiet", "ineffective", "unknown"})
# It waits for operators.
WAITING: frozenset[Phase] = frozenset({"proposed", "approved"})

_BEGIN: Mapping[Outcome, Phase] = {"proposed": "proposed", "applied": "applied", "failed": "failed"}
_WAIT: Mapping[Outcome, Phase] = {
    **_BEGIN, "approved": "approved", "rejected": "rejected", "cancelled": "cancelled", "expired": "expired",
}  # fmt: skip
_STAND: Mapping[Outcome, Phase] = {
    "applied": "applied", "failed": "failed", "effective": "effective", "quiet": "quiet",
    "ineffective": "ineffective", "unknown": "unknown", "expired": "expired", "released": "released",
    "reverted": "reverted", "cancelled": "cancelled",
}  # fmt: skip
# What an operator took back or refused returns only by his approval.
_REFUSED: Mapping[Outcome, Phase] = {"approved": "approved"}
MOVES: Mapping[Phase, Mapping[Outcome, Phase]] = {
    **dict.fromkeys(("proposed", "failed", "expired", "released", "cancelled"), _WAIT),
    "approved": {**_WAIT, "proposed": "approved"},
    **dict.fromkeys(STANDING, _STAND),
    **dict.fromkeys(("rejected", "reverted"), _REFUSED),
}

# The reason of a proposal to let a wider action take the place of one that stands and does not contain.
NEXT_RUNG = "next_rung"

# A few kilobytes each: a decision, its manifests and proof.
MAX_CONTAINMENTS = 20_000
MAX_OFFENDERS = 20_000
MAX_UNANSWERED = 20_000
# Refusals by somebody's will, or of what is over, contained already or somebody else's: nobody waits for more then.
MEANT = frozenset({
    "allowed", "exempt", "observe", "stopped", "lifted", "ended", "stale", "other_cluster", "rejected", "reverted",
    "already_blocked", "already_quarantined", "already_cordoned", "no_action",
})  # fmt: skip
MAX_EVIDENCE = 16  # captures of one response that are named
MAX_ALLOWED = 1000
# Applications are counted for the longest window of a budget.
RECENT_S = 3600.0
_MAX_RECENT = 10_000


@dataclass(frozen=True, slots=True)
class Proposal:
    """A wider action that waits for approval while the one before it stands and does not contain."""

    action: str
    target: str
    decision: ResponseDecision
    manifests: tuple[dict[str, Any], ...] = ()
    proof: Mapping[str, Any] | None = None
    approvals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Containment:
    """One response's life so far. Times are s since epoch; `since` is the last change of the phase.

    `answered_s` is how long after `applied_at` packets of it were still answered, as far as packets showed any.
    `next` is what waits for approval to take its place; `evidence` says what nodes captured for it.
    """

    response_id: str
    phase: Phase
    since: float
    alert_id: str = ""
    action: str = ""
    target: str = ""
    reason: str = ""
    message: str = ""
    decided_tick: int = 0
    level: int = 0
    expires_at: str = ""
    decision: ResponseDecision | None = None
    manifests: tuple[dict[str, Any], ...] = ()
    undo: tuple[dict[str, Any], ...] = ()
    proof: Mapping[str, Any] | None = None
    approvals: tuple[str, ...] = ()
    repairs: int = 0
    missed: bool = False
    applied_at: float = 0.0
    answered_s: float | None = None
    next: Proposal | None = None
    evidence: tuple[str, ...] = ()

    @property
    def asked(self) -> ResponseDecision | None:
        """The decision that waits: of the next rung where one does."""
        return self.next.decision if self.next is not None else self.decision

    @property
    def deadline(self) -> float:
        """By when it should be contained, s since epoch; 0 where the decision is not known."""
        asked = self.asked
        return float(asked.decided_tick + asked.deadline_s) if asked is not None else 0.0


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A decision of which nothing was done, and the last reason; `missed`: its deadline passed, and that was told."""

    decision: ResponseDecision
    message: str
    missed: bool = False

    @property
    def deadline(self) -> float:
        """By when it should have been contained, s since epoch."""
        return float(self.decision.decided_tick + self.decision.deadline_s)


@dataclass(frozen=True, slots=True)
class Allowed:
    """Somebody whom an operator never wants cut off. `until` is s since epoch, 0: for good."""

    target: str
    until: float
    operator: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Offence:
    level: int
    ended: float


class Ledger:
    """All containments of one cluster, by response id, and what holds for all of them."""

    def __init__(self) -> None:
        self._containments: OrderedDict[str, Containment] = OrderedDict()
        self._offenders: OrderedDict[str, _Offence] = OrderedDict()
        self._unanswered: OrderedDict[str, Unanswered] = OrderedDict()
        self._recent: deque[float] = deque(maxlen=_MAX_RECENT)
        self._allowed: dict[str, Allowed] = {}
        self.commands: OrderedDict[str, float] = OrderedDict()
        self.stopped = ""
        self.dropped = 0

    def get(self, response_id: str) -> Containment | None:
        """The containment of a response, or none."""
        return self._containments.get(response_id)

    def all(self, phases: Iterable[Phase] | None = None) -> tuple[Containment, ...]:
        """Containments in the order of their first step; of some phases only, where given."""
        wanted = None if phases is None else frozenset(phases)
        return tuple(item for item in self._containments.values() if wanted is None or item.phase in wanted)

    def fold(self, action: Action) -> Containment | None:
        """Take one step of the audit in; the containment it changed, or none."""
        at = _seconds(action.at)
        if action.command_id is not None:
            _put(self.commands, action.command_id, at, MAX_CONTAINMENTS)
        if action.outcome in ("stopped", "resumed"):
            self.stopped = action.message if action.outcome == "stopped" else ""
            if action.outcome == "resumed":
                # Whoever resumes has looked at what was applied.
                self._recent.clear()
            return None
        if action.outcome in ("allowed", "disallowed"):
            self._fold_allowed(action)
            return None
        if not action.response_id:
            return None
        before = self._containments.get(action.response_id)
        after = _advanced(before, action, at)
        if after is None:
            if before is None:
                self._note_unanswered(action)
            return None
        self._unanswered.pop(action.response_id, None)
        newly = before is None or before.phase not in STANDING
        if action.outcome == "applied" and newly and not harmless(action.action):
            self._recent.append(at)
        self._note_offence(before, after)
        _put(self._containments, action.response_id, after, None)
        self._make_room()
        return after

    def unanswered(self) -> tuple[Unanswered, ...]:
        """Decisions of which every action was refused so far, in the order of their first refusal."""
        return tuple(self._unanswered.values())

    def level(self, decision: ResponseDecision, now: float, window_s: float) -> int:
        """How often its subject was contained before and came back within a window of s after the end."""
        standing = self._containments.get(decision.id)
        if standing is not None and standing.phase in STANDING:
            return standing.level
        known = self._offenders.get(offender(decision))
        return 0 if known is None or now - known.ended > window_s else known.level + 1

    def applied_since(self, moment: float) -> int:
        """Containments that were newly applied after a time, at most those of the last hour."""
        return sum(1 for at in self._recent if at > moment)

    def allowed(self, now: float) -> tuple[Allowed, ...]:
        """Whom operators allow at a time."""
        return tuple(item for _, item in sorted(self._allowed.items()) if not item.until or item.until > now)

    def _fold_allowed(self, action: Action) -> None:
        if action.outcome == "disallowed":
            self._allowed.pop(action.target, None)
        elif len(self._allowed) < MAX_ALLOWED or action.target in self._allowed:
            until = _seconds(action.expires_at) if action.expires_at else 0.0
            self._allowed[action.target] = Allowed(action.target, until, action.operator or "", action.message)

    def _note_unanswered(self, action: Action) -> None:
        known = self._unanswered.get(action.response_id)
        if action.outcome == "missed" and known is not None:
            self._unanswered[action.response_id] = replace(known, missed=True)
        if action.outcome != "refused" or action.decision is None or action.reason in MEANT:
            return
        told = known is not None and known.missed
        _put(self._unanswered, action.response_id, Unanswered(action.decision, action.message, told), MAX_UNANSWERED)

    def _note_offence(self, before: Containment | None, after: Containment) -> None:
        if before is None or before.phase not in STANDING or after.phase not in ("expired", "released"):
            return
        if after.decision is not None and contains(after.action):
            _put(self._offenders, offender(after.decision), _Offence(after.level, after.since), MAX_OFFENDERS)

    def _make_room(self) -> None:
        while len(self._containments) > MAX_CONTAINMENTS:
            ended = (key for key, item in self._containments.items() if item.phase not in STANDING | WAITING)
            self._containments.pop(next(ended, next(iter(self._containments))))
            self.dropped += 1


def next_phase(phase: Phase | None, action: Action) -> Phase | None:
    """The phase after a step; none where the step does not belong there or changes none."""
    if phase is None:
        return _BEGIN.get(action.outcome)
    if action.outcome == "failed" and phase in STANDING and action.reason == "not_reverted":
        return phase
    if action.outcome in ("extended", "repaired", "drifted", "missed"):
        return phase
    return MOVES[phase].get(action.outcome)


def offender(decision: ResponseDecision) -> str:
    """Who is contained, whichever alert says so: the attackers' workloads, or their addresses."""
    names = {
        f"{end.namespace}/{end.workload or end.pod}" if end.namespace and (end.workload or end.pod) else end.ip
        for end in decision.attackers
    }
    return "\x1f".join(sorted(names))


def time_to_live(ttl_s: int, level: int, ladder: Iterable[int]) -> int:
    """Seconds that a containment of a level lasts: the decision's own, then the longer steps of the ladder."""
    steps = [ttl_s, *sorted(step for step in ladder if step > ttl_s)]
    return steps[min(level, len(steps) - 1)]


def replayed(actions: Iterable[Action]) -> Ledger:
    """The ledger after some actions."""
    made = Ledger()
    for action in actions:
        made.fold(action)
    return made


def _advanced(before: Containment | None, action: Action, at: float) -> Containment | None:
    if action.outcome == "node_captured":
        if before is None:
            return None
        named = tuple(dict.fromkeys((*before.evidence, f"{action.target}: {action.message}")))
        return replace(before, evidence=named[:MAX_EVIDENCE])
    if before is not None and before.phase in STANDING and action.outcome in ("proposed", "approved", "rejected"):
        return _about_next(before, action)
    phase = next_phase(before.phase if before is not None else None, action)
    if phase is None or (before is None and action.outcome == "failed" and action.decision is None):
        return None
    base = before or Containment(action.response_id, phase, at)
    changed = replace(
        base,
        phase=phase,
        since=base.since if phase == base.phase and before is not None else at,
        alert_id=action.alert_id or base.alert_id,
        reason=action.reason,
        message=action.message,
        decided_tick=action.decided_tick or base.decided_tick,
        decision=action.decision or base.decision,
    )
    if action.outcome in ("applied", "proposed", "failed") and action.action:
        changed = replace(changed, action=action.action, target=action.target, proof=action.proof,
                          manifests=action.manifests, undo=action.undo)  # fmt: skip
    if action.outcome in ("applied", "extended", "repaired"):
        changed = replace(changed, expires_at=action.expires_at or changed.expires_at)
        if action.outcome != "repaired" and action.manifests:
            changed = replace(changed, manifests=action.manifests)
    if action.outcome in ("applied", "extended"):
        changed = replace(changed, level=action.level)
    if action.outcome == "applied":
        changed = replace(changed, applied_at=at, answered_s=None)
    if action.answered_s is not None:
        changed = replace(changed, answered_s=action.answered_s)
    if action.outcome == "approved":
        # Approvals of an earlier life do not count again.
        earlier = base.approvals if base.phase == "approved" else ()
        changed = replace(changed, approvals=tuple(dict.fromkeys((*earlier, action.operator or ""))))
    if action.outcome == "repaired":
        changed = replace(changed, repairs=base.repairs + 1)
    if phase not in ("ineffective", "unknown") or action.outcome == "applied":
        # It contains after all, or something else was done.
        changed = replace(changed, next=None)
    return replace(changed, missed=base.missed or action.outcome == "missed")


def _about_next(before: Containment, action: Action) -> Containment | None:
    """What operators are asked, and say, about the rung after the one that stands; that one goes on as it is."""
    waiting = before.next
    if action.outcome == "proposed":
        if action.reason != NEXT_RUNG or action.decision is None:
            return None
        return replace(
            before, next=Proposal(action.action, action.target, action.decision, action.manifests, action.proof)
        )
    if waiting is None:
        return None
    if action.outcome == "rejected":
        return replace(before, next=None)
    said = tuple(dict.fromkeys((*waiting.approvals, action.operator or "")))
    return replace(before, next=replace(waiting, approvals=said))


def _put(memory: OrderedDict[str, Any], key: str, value: Any, most: int | None) -> None:
    memory[key] = value
    while most is not None and len(memory) > most:
        memory.popitem(last=False)


def _seconds(text: str) -> float:
    try:
        return from_iso(text)
    except ValueError:
        return 0.0
