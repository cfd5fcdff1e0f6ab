"""What follows when packets show that a containment does not contain: the next rung of its ladder."""

from __future__ import annotations

from collections.abc import Iterator

from response.audit import told
from response.cluster_site import Site
from response.enforce import carry_out
from response.guard import Refusal
from response.ledger import NEXT_RUNG, Containment
from response.plan import contains
from schemas.action import Action


def escalate(site: Site, known: Containment, now: float) -> Iterator[Action]:
    """Try the rungs after the one that was applied; it stands until one of them takes its place.

    Where the decision asks for approval, the first of them that is proven waits for it.

    The new decision rests on what packets show now, so it is not stale, however old the alert is.
    """
    decision = known.decision
    if decision is None:
        return
    place = decision.actions.index(known.action) if known.action in decision.actions else len(decision.actions)
    # One that only notes the attack would take the place of what stands.
    rest = tuple(name for name in decision.actions[place + 1 :] if contains(name))
    if not rest:
        message = f"{known.action} is ineffective, and the ladder has no further rung"
        yield told(decision, known.action, "refused", Refusal("no_next_rung", message), now)
    else:
        again = decision.model_copy(update={"actions": rest, "decided_tick": int(now)})
        for action in carry_out(site, again, now):
            yield _waiting(known, action) if action.outcome == "proposed" else action


def _waiting(known: Containment, action: Action) -> Action:
    """A proposal that an operator may approve, told as what may take the place of what stands."""
    if action.decision is None or action.decision.mode != "approve":
        return action
    message = f"{known.action} is ineffective; {action.action} waits for approval to take its place: {action.message}"
    return action.model_copy(update={"reason": NEXT_RUNG, "message": message})
