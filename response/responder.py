"""Acts for one cluster: decisions, operators' commands, and looking after what was applied. Every step is an Action.

Time is an argument. What is remembered is the ledger, which is made from the audit; so a restart forgets nothing that
matters, and what is in the cluster expires even if it was another process's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from threading import Lock

from response.audit import Cause, action_id, told
from response.cluster_site import MAX_REMEMBERED, Site
from response.edges import EdgeMemory
from response.enforce import STALE_AFTER_S, carry_out
from response.escalate import escalate
from response.gateway import ClusterError, Gateway
from response.guard import Refusal
from response.ledger import STANDING, Ledger
from response.notes import event_of
from response.orders import Orders, approve, revert
from response.plan import cuts_attackers
from response.reconcile import Reconciler
from response.settings import ResponseSettings
from response.signing import Verifier
from response.verify import Verification
from schemas.action import Action
from schemas.command import Command
from schemas.response import ResponseDecision
from schemas.watch import WatchRow
from schemas.word import iso_time

__all__ = ["MAX_REMEMBERED", "STALE_AFTER_S", "Responder"]


class Responder:
    """Acts on decisions for one cluster. Calls from several threads are carried out one after the other."""

    def __init__(
        self,
        gateway: Gateway,
        settings: ResponseSettings,
        cluster: str,
        ledger: Ledger | None = None,
        verifier: Verifier | None = None,
        edges: EdgeMemory | None = None,
    ) -> None:
        """Begin with what a ledger knows; without a verifier every command is refused."""
        self._site = Site(gateway, settings, cluster, ledger if ledger is not None else Ledger(), edges)
        self._reconciler = Reconciler(self._site)
        self._orders = Orders(self._site, verifier or Verifier({}))
        self._verification = Verification(settings.verify)
        self._lock = Lock()

    @property
    def ledger(self) -> Ledger:
        """What every containment is at."""
        return self._site.ledger

    def respond(self, decision: ResponseDecision, now: float) -> tuple[Action, ...]:
        """Do what a decision asks for in its mode; `now` is seconds since the epoch.

        Repeats of a decision give only what was not told before. Cluster errors become `failed` actions.
        """
        with self._lock:
            if self._site.cluster and decision.cluster != self._site.cluster:
                # Several clusters may share a broker; equal pod names in another one must never be touched.
                message = f"this responder serves cluster {self._site.cluster!r}, not {decision.cluster!r}"
                return self._tell([told(decision, "", "refused", Refusal("other_cluster", message), now)])
            if decision.mode == "observe":
                return self._tell([told(decision, "", "observed", Refusal("observe", decision.reason), now)])
            return self._tell(carry_out(self._site, decision, now))

    def obey(self, command: Command, now: float) -> tuple[Action, ...]:
        """Carry out an operator's command, or say why not."""
        with self._lock:
            return self._tell(self._orders.obey(command, now))

    def approve(self, response_id: str, operator: str, now: float) -> tuple[Action, ...]:
        """Note an approval of a response that waits for some; carry it out once there are enough."""
        with self._lock:
            return self._tell(approve(self._site, response_id, Cause(operator), now))

    def revert(self, response_id: str, operator: str, now: float) -> tuple[Action, ...]:
        """Take back everything that a response has in the cluster; it is not applied again."""
        with self._lock:
            return self._tell(revert(self._site, response_id, Cause(operator), now))

    def expire(self, now: float) -> tuple[Action, ...]:
        """Take back every response whose time has come, also those that another process applied."""
        with self._lock:
            return self._looked(lambda: self._reconciler.expire(now), now)

    def reconcile(self, now: float) -> tuple[Action, ...]:
        """Bring ledger and cluster together: see `response.reconcile`."""
        with self._lock:
            return self._looked(lambda: self._reconciler.run(now), now)

    def watched(self, rows: Iterable[WatchRow], now: float) -> tuple[Action, ...]:
        """Take in what packets show of containments; say what it proves, and escalate what does not contain.

        To be called every now and then without rows, too: that nobody sees anything is news.
        """
        with self._lock:
            return self._tell(self._verified(rows, now))

    def _verified(self, rows: Iterable[WatchRow], now: float) -> Iterator[Action]:
        site = self._site
        standing = [item for item in site.ledger.all(STANDING) if cuts_attackers(item.action)]
        self._verification.follow(standing)
        for row in rows:
            if not site.cluster or row.cluster == site.cluster:
                self._verification.observe(row)
        for verdict in self._verification.judge(standing, now):
            yield site.step(verdict.response_id, verdict.status, verdict.why, now, answered_s=verdict.answered_for)
            known = site.ledger.get(verdict.response_id)
            if verdict.status == "ineffective" and known is not None:
                yield from escalate(site, known, now)

    @property
    def unfinished(self) -> bool:
        """Whether the last look at the cluster left something for the next, which should come at once."""
        return self._reconciler.unfinished

    @property
    def next_deadline(self) -> float:
        """When the next look should be at the latest, s since epoch: a deadline may be missed then."""
        with self._lock:
            return self._reconciler.next_deadline()

    def _looked(self, look: Callable[[], Iterable[Action]], now: float) -> tuple[Action, ...]:
        """The steps of a look at the cluster; what was done before it broke off is told, too."""
        done: list[Action] = []
        try:
            for action in look():
                done += self._tell([action])
        except ClusterError as error:
            done += self._tell([self._blind(error, now)])
        return tuple(done)

    def _blind(self, error: ClusterError, now: float) -> Action:
        return Action(
            id=action_id("", "", "", "failed", error.reason, iso_time(now)),
            response_id="",
            alert_id="",
            cluster=self._site.cluster,
            action="",
            outcome="failed",
            mode="enforce",
            target="",
            reason=error.reason,
            message=str(error),
            decided_tick=int(now),
            at=iso_time(now),
        )

    def _tell(self, actions: Iterable[Action]) -> tuple[Action, ...]:
        fresh = self._site.tell(actions)
        if self._site.settings.upkeep.events:
            for action in fresh:
                for event in event_of(action, self._site.ledger.get(action.response_id)):
                    try:
                        self._site.gateway.note(event)
                    except ClusterError:
                        # The audit has it; an Event is for people who look at the pod.
                        break
        return fresh
