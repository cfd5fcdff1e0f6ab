"""Bringing the ledger and the cluster together: the objects in the cluster are the truth, the ledger says why.

The order matters: what must go goes before what should stay is looked after.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from response.allowlist import allowing
from response.cluster_site import Site
from response.decide import is_besides
from response.drift import Drift, DriftWatch, find_drift, with_expiry
from response.drops import on_nodes
from response.enforce import carry_out, seconds
from response.escalate import escalate
from response.gateway import ClusterError, Managed
from response.guard import Refusal
from response.ledger import STANDING, WAITING, Containment, Ledger, Phase, Unanswered, time_to_live
from response.plan import contains
from response.standing import Backdrop, prove_standing
from schemas.action import Action, Outcome
from schemas.policy.cluster import ClusterView
from schemas.response import ResponseDecision
from schemas.word import iso_time

# A proof takes tenths of a second in a large cluster, and whoever decides waits while they are made.
MAX_PROOFS = 25
_NEEDS_A_HAND = frozenset({"approve", "enforce"})
_UNDONE: frozenset[Phase] = WAITING | {"failed"}


class Reconciler:
    """Looks after a site; remembers only what each containment was last proven on.

    `unfinished` says that there was more to prove than one look may take, so that the next should come at once.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._proven: dict[str, str] = {}
        self._drift = DriftWatch()
        self.unfinished = False

    def expire(self, now: float) -> Iterator[Action]:
        """Take back every response whose time has come, also those that another process applied.

        An object of ours without a readable expiry counts as expired: nothing of ours stays for ever.
        """
        why = Refusal("expired", "its time to live has passed")
        for item in self._managed():
            if seconds(item.expires_at) <= now:
                yield self._site.take_back(item, "expired", why, now)

    def run(self, now: float) -> Iterator[Action]:
        """One look at everything. Raises ClusterError where the cluster cannot be read; then nothing was changed."""
        site = self._site
        self.unfinished = False
        managed = {item.response_id: item for item in self._managed()}
        stopped = site.kill_switch() or site.ledger.stopped
        if stopped:
            for item in managed.values():
                yield site.take_back(item, "cancelled", Refusal("stopped", stopped), now)
            yield from self._waiting(now)
            return
        yield from self._due(managed, now)
        view = site.gateway.view()
        broken: set[str] = set()
        acted = False
        standing = site.ledger.all(STANDING)
        self._drift.keep({known.response_id for known in standing})
        for known in standing:
            held = managed.get(known.response_id)
            action = self._ended(known, held, view, now) or self._drifted(known, held, view, now)
            if action is not None:
                acted = True
                yield action
                if action.outcome == "drifted":
                    broken.add(known.response_id)
        yield from self._prove_again(site.gateway.view() if acted else view, broken, now)
        yield from self._waiting(now)

    def next_deadline(self) -> float:
        """The earliest deadline that may still be missed, s since epoch; infinity where there is none."""
        ledger = self._site.ledger
        open_ends = [known.deadline for known in _undone(ledger) if _may_be_missed(known)]
        return min([*open_ends, *(left.deadline for left in _unanswered(ledger))], default=inf)

    def _managed(self) -> tuple[Managed, ...]:
        return self._site.gateway.managed()

    def _due(self, managed: dict[str, Managed], now: float) -> Iterator[Action]:
        site = self._site
        for item in list(managed.values()):
            known = site.ledger.get(item.response_id)
            if seconds(item.expires_at) <= now:
                why = Refusal("expired", "its time to live has passed")
                done = self._prolonged(known, now) or site.take_back(item, "expired", why, now)
            elif known is not None and known.phase not in STANDING and known.decision is not None:
                # It was to be gone: an earlier try to take it back failed, or somebody brought it back.
                done = site.take_back(item, "cancelled", Refusal("ended", f"it ended as {known.phase}"), now)
            else:
                continue
            if done.outcome != "extended":
                del managed[item.response_id]
            yield done

    def _prolonged(self, known: Containment | None, now: float) -> Action | None:
        """The next longer step for a containment against which packets still run; none where it may end."""
        if known is None or known.phase != "effective" or known.decision is None or not known.manifests:
            return None
        site = self._site
        level = known.level + 1
        text = iso_time(now + time_to_live(known.decision.ttl_s, level, site.settings.upkeep.escalation_s))
        manifests = with_expiry(known.manifests, text)
        try:
            for manifest in manifests:
                site.gateway.apply(manifest)
        except ClusterError:
            # It ends, as nothing of ours may stay beyond its time; a later revision of the alert applies it again.
            return None
        why = Refusal("goes_on", f"packets still run against it; kept until {text}")
        return site.step(known.response_id, "extended", why, now, expires_at=text, manifests=manifests, level=level)

    def _ended(self, known: Containment, item: Managed | None, view: ClusterView, now: float) -> Action | None:
        """What ends a containment early, or none."""
        site, upkeep = self._site, self._site.settings.upkeep
        if known.decision is not None:
            entry = allowing(known.decision, known.action, site.ledger.allowed(now))
            if entry is not None:
                why = Refusal("allowed", f"{entry.operator} allows {entry.target}: {entry.reason or 'no reason given'}")
                return self._finish(known, item, "cancelled", why, now)
        quiet = upkeep.release_after_quiet_s
        if quiet and known.phase == "quiet" and now - known.since >= quiet:
            why = Refusal("quiet", f"no attempt for {now - known.since:.0f} s; watched for a relapse")
            return self._finish(known, item, "released", why, now)
        pods = [str(key) for key in (known.proof or {}).get("pods", ())]
        # A node's drops are by address, and another pod may get it next.
        personal = known.proof is not None and (known.proof.get("isolates") or on_nodes(known.manifests))
        if personal and pods and not any(map(view.pod, pods)):
            why = Refusal(
                "gone", f"{', '.join(pods[:5])} ended; what is done to a pod does not pass to the replacement"
            )
            return self._finish(known, item, "released", why, now)
        if item is None and known.expires_at and seconds(known.expires_at) <= now:
            return site.step(known.response_id, "expired", Refusal("expired", "its time to live has passed"), now)
        return None

    def _drifted(self, known: Containment, item: Managed | None, view: ClusterView, now: float) -> Action | None:
        upkeep = self._site.settings.upkeep
        drift = self._drift.find(known.response_id, known.manifests, item, view) if known.manifests else None
        if drift is None:
            return None
        if upkeep.drift == "respect" or known.repairs >= upkeep.repairs:
            reason = "respected" if upkeep.drift == "respect" else "contested"
            return self._finish(known, item, "cancelled", Refusal(reason, drift.text), now)
        return self._repair(known, drift, now)

    def _repair(self, known: Containment, drift: Drift, now: float) -> Action:
        site = self._site
        try:
            for manifest in drift.missing:
                site.gateway.apply(manifest)
        except ClusterError as error:
            return site.step(known.response_id, "drifted", Refusal(error.reason, f"{drift.text}; {error}"), now)
        problems = site.undo(drift.leftover)
        if problems:
            return site.step(known.response_id, "drifted", Refusal("not_reverted", "; ".join(problems)), now)
        self._proven.pop(known.response_id, None)
        return site.step(known.response_id, "repaired", Refusal("drift", drift.text), now)

    def _finish(self, known: Containment, item: Managed | None, outcome: Outcome, why: Refusal, now: float) -> Action:
        if item is None:
            return self._site.step(known.response_id, outcome, why, now)
        return self._site.take_back(item, outcome, why, now)

    def _prove_again(self, view: ClusterView, broken: set[str], now: float) -> Iterator[Action]:
        """Prove again what a change in the cluster may have spoiled, a bounded number at a time.

        What could not be repaired proves nothing about the others' policies and is left for the next look.
        """
        site = self._site
        standing = [item for item in site.ledger.all(STANDING) if item.manifests]
        self._proven = {item.response_id: self._proven.get(item.response_id, "") for item in standing}
        backdrop = Backdrop(view, site.settings)
        changed = []
        for known in standing:
            seen = backdrop.relevant(known)
            if seen != self._proven[known.response_id] and known.response_id not in broken:
                changed.append((known, seen))
        self.unfinished = len(changed) > MAX_PROOFS
        for known, seen in changed[:MAX_PROOFS]:
            self._proven[known.response_id] = seen
            proof = prove_standing(known, view, site)
            if proof is None:
                continue
            if proof.holds:
                if known.phase == "ineffective" and known.next is None:
                    # What could not be done when packets said so may be possible now.
                    yield from escalate(site, known, now)
                continue
            held = next(iter(self._site.gateway.managed(known.response_id)), None)
            if find_drift(known.manifests, held, view) is not None:
                # Somebody took it away since it was looked at: that is repaired first.
                self._proven[known.response_id] = ""
                self.unfinished = True
                continue
            why = Refusal(proof.reason, f"no longer holds: {proof.message}")
            yield self._finish(known, held, "cancelled", why, now)
            decision = known.decision
            if decision is not None:
                # The next rung may still do it; what needed approval needs it again.
                yield from carry_out(site, decision, now)

    def _waiting(self, now: float) -> Iterator[Action]:
        """Proposals that lapse, and deadlines that passed without containment; each is told once."""
        site = self._site
        for known in _undone(site.ledger):
            decision = known.asked
            if decision is None:
                continue
            if _may_be_missed(known) and now > known.deadline:
                late = f"not contained {decision.deadline_s} s after the alert: {known.phase}, {known.message}"
                yield site.step(known.response_id, "missed", Refusal("deadline", late), now, decision=decision)
            if known.phase in WAITING and now - known.since > site.settings.upkeep.proposal_s:
                yield site.step(known.response_id, "expired", Refusal("lapsed", "nobody approved it in time"), now)
        for left in _unanswered(site.ledger):
            if now > left.deadline:
                yield _never_answered(site, left, now)


def _undone(ledger: Ledger) -> tuple[Containment, ...]:
    """What is not contained: of what stands, that which waits for something wider, and that which only notes it."""
    return tuple(
        known
        for known in ledger.all(_UNDONE | STANDING)
        if known.phase in _UNDONE or known.next is not None or not contains(known.action)
    )


def _unanswered(ledger: Ledger) -> list[Unanswered]:
    """Decisions of which everything was refused, and whose deadline may still be missed."""
    return [left for left in ledger.unanswered() if not left.missed and _wants_a_hand(left.decision)]


def _never_answered(site: Site, left: Unanswered, now: float) -> Action:
    decision = left.decision
    late = f"not contained {decision.deadline_s} s after the alert: every action was refused, {left.message}"
    return site.step(
        decision.id, "missed", Refusal("deadline", late), now, alert_id=decision.alert_id, mode=decision.mode,
        decided_tick=decision.decided_tick, decision=decision,
    )  # fmt: skip


def _may_be_missed(known: Containment) -> bool:
    decision = known.asked
    return decision is not None and not known.missed and _wants_a_hand(decision)


def _wants_a_hand(decision: ResponseDecision) -> bool:
    return decision.mode in _NEEDS_A_HAND and not is_besides(decision)
