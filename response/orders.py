"""Operators' commands: who may say what, and what follows. Every command is audited, refused ones too.

All of them are idempotent: a command that comes again finds that there is nothing left to do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping

from response.allowlist import read_target
from response.audit import Cause, action_id
from response.cluster_site import Site
from response.drift import with_expiry
from response.enforce import carry_out
from response.gateway import ClusterError
from response.guard import Refusal
from response.ledger import STANDING, WAITING, Containment
from response.signing import Operator, Verifier
from schemas.action import Action, Outcome
from schemas.command import Command
from schemas.word import from_iso, iso_time

# Longer than the last step of the escalation is for an allow-list or a policy of one's own, not for containment.
MAX_EXTENSION_S = 30 * 86_400


class Orders:
    """Carries out verified commands on a site."""

    def __init__(self, site: Site, verifier: Verifier) -> None:
        self._site = site
        self._verifier = verifier
        self._verbs: Mapping[str, Callable[[Command, Cause, float], Iterator[Action]]] = {
            "approve": self._approve, "reject": self._reject, "extend": self._extend, "revert": self._revert,
            "allow": self._allow, "disallow": self._disallow, "stop": self._stop, "resume": self._resume,
        }  # fmt: skip
        for command_id, issued in site.ledger.commands.items():
            verifier.remember(command_id, issued)

    def obey(self, command: Command, now: float) -> Iterator[Action]:
        """What a command leads to; one that is not believed leads to a refusal in the audit."""
        site = self._site
        if site.cluster and command.cluster != site.cluster:
            message = f"this responder serves cluster {site.cluster!r}, not {command.cluster!r}"
            yield self._refused(command, Cause(), Refusal("other_cluster", message), now)
            return
        who = self._verifier.verify(command, now)
        if isinstance(who, Refusal):
            yield self._refused(command, Cause(), who, now)
            return
        yield from self._verbs[command.verb](command, Cause(_named(who), command.id), now)

    def _approve(self, command: Command, by: Cause, now: float) -> Iterator[Action]:
        yield from approve(self._site, command.target, by, now)

    def _reject(self, command: Command, by: Cause, now: float) -> Iterator[Action]:
        known = self._site.ledger.get(command.target)
        if known is not None and known.phase in STANDING and known.next is None:
            yield from self._revert(command, by, now)
        elif known is None or (known.phase not in WAITING and known.next is None):
            yield self._refused(command, by, _not_waiting(command.target, known), now)
        else:
            why = Refusal("command", f"rejected by {by.operator}: {command.reason or 'no reason given'}")
            yield self._site.step(command.target, "rejected", why, now, by)

    def _revert(self, command: Command, by: Cause, now: float) -> Iterator[Action]:
        yield from revert(self._site, command.target, by, now, command.reason)

    def _extend(self, command: Command, by: Cause, now: float) -> Iterator[Action]:
        site = self._site
        known = site.ledger.get(command.target)
        if known is None or known.phase not in STANDING or not known.manifests:
            message = f"response {command.target!r} has nothing in the cluster that is known here"
            yield self._refused(command, by, Refusal("not_standing", message), now)
            return
        if not 0 < command.seconds <= MAX_EXTENSION_S:
            message = f"extend by 1 to {MAX_EXTENSION_S} seconds, not {command.seconds}"
            yield self._refused(command, by, Refusal("bad_seconds", message), now)
            return
        # From the time of the command, not of its reading: a repeat says the same.
        text = iso_time(from_iso(command.issued_at) + command.seconds)
        manifests = with_expiry(known.manifests, text)
        try:
            for manifest in manifests:
                site.gateway.apply(manifest)
        except ClusterError as error:
            yield self._refused(command, by, Refusal(error.reason, str(error)), now, "failed")
            return
        why = Refusal("command", f"kept until {text} by {by.operator}: {command.reason or 'no reason given'}")
        yield site.step(command.target, "extended", why, now, by, expires_at=text, manifests=manifests)

    def _allow(self, command: Command, by: Cause, now: float) -> Iterator[Action]:
        target = read_target(command.target)
        if isinstance(target, Refusal):
            yield self._refused(command, by, target, now)
            return
        until = iso_time(from_iso(command.issued_at) + command.seconds) if command.seconds else None
        yield self._said(command, "allowed", target, by, now, until)

    def _disallow(self, command: Command, by: Cause, now: float) -> Iterator[Action]:
        target = read_target(command.target)
        if isinstance(target, Refusal):
            yield self._refused(command, by, target, now)
        else:
            yield self._said(command, "disallowed", target, by, now)

    def _stop(self, command: Command, by: Cause, now: float) -> Iterator[Action]:
        text = f"stopped by {by.operator}: {command.reason or 'no reason given'}"
        yield self._said(command, "stopped", "*", by, now, message=text)
        why = Refusal("stopped", text)
        try:
            found = self._site.gateway.managed()
        except ClusterError as error:
            yield self._refused(command, by, Refusal(error.reason, f"stopped, but not taken back yet: {error}"), now,
                                "failed")  # fmt: skip
            return
        for item in found:
            yield self._site.take_back(item, "cancelled", why, now, by)

    def _resume(self, command: Command, by: Cause, now: float) -> Iterator[Action]:
        yield self._said(command, "resumed", "*", by, now, message=f"resumed by {by.operator}: {command.reason}")

    def _said(
        self, command: Command, outcome: Outcome, target: str, by: Cause, now: float, until: str | None = None,
        message: str | None = None,
    ) -> Action:  # fmt: skip
        why = Refusal("command", command.reason if message is None else message)
        by = Cause(by.operator, command.id)
        return self._audit(action_id(command.id, outcome, target), outcome, target, why, by, now, until)

    def _refused(self, command: Command, by: Cause, why: Refusal, now: float, outcome: Outcome = "refused") -> Action:
        """The audit of a command that was not carried out; a stranger's words are not repeated but for the target."""
        # A forged command must neither mark a real one's id as seen nor be told twice.
        digest = hashlib.sha256(command.encode()).hexdigest()
        said = Refusal(why.reason, f"command {command.verb}: {why.message}")
        return self._audit(action_id(digest, outcome, why.reason), outcome, command.target, said, by, now)

    def _audit(
        self, audit_id: str, outcome: Outcome, target: str, why: Refusal, by: Cause, now: float,
        until: str | None = None,
    ) -> Action:  # fmt: skip
        """A step of the audit that is about no response."""
        return Action(
            id=audit_id,
            response_id="",
            alert_id="",
            cluster=self._site.cluster,
            action="",
            outcome=outcome,
            mode="enforce",
            target=target,
            reason=why.reason,
            message=why.message,
            decided_tick=int(now),
            at=iso_time(now),
            expires_at=until,
            operator=by.operator,
            command_id=by.command_id,
        )


def approve(site: Site, response_id: str, by: Cause, now: float) -> Iterator[Action]:
    """Note an approval; carry the response out once enough different persons approved it."""
    known = site.ledger.get(response_id)
    decision = known.asked if known is not None else None
    following = known.next if known is not None else None
    may_be = following is not None or (
        known is not None and known.phase in WAITING | {"failed", "rejected", "reverted"}
    )
    if known is None or decision is None or not may_be:
        yield _unanswered(site, response_id, _not_waiting(response_id, known), by, now)
        return
    if decision.mode != "approve":
        message = f"response {response_id!r} was decided in mode {decision.mode}, which no approval changes"
        yield _unanswered(site, response_id, Refusal("not_waiting", message), by, now)
        return
    if decision.approvers and _person(by) not in decision.approvers:
        message = f"{by.operator} is none of its approvers: {', '.join(decision.approvers)}"
        yield _unanswered(site, response_id, Refusal("not_an_approver", message), by, now)
        return
    before = following.approvals if following is not None else known.approvals if known.phase == "approved" else ()
    if _person(by) in map(_person_of, before):
        message = f"{by.operator} approved it already; another person must"
        yield _unanswered(site, response_id, Refusal("approved_already", message), by, now)
        return
    needed = max(decision.approvals, 2 if site.settings.commands.two_person else 1)
    count = len(before) + 1
    why = Refusal("approval", f"approved by {by.operator}, {count} of {needed}")
    asked = following.action if following is not None else known.action
    yield site.step(response_id, "approved", why, now, by, action=asked)
    if count >= needed:
        enforced = decision.model_copy(update={"mode": "enforce"})
        for action in carry_out(site, enforced, now, by):
            # What was approved is this attempt; a later one asks again.
            yield action.model_copy(update={"decision": decision}) if action.decision is not None else action


def revert(site: Site, response_id: str, by: Cause, now: float, reason: str = "") -> Iterator[Action]:
    """Take back everything that a response has in the cluster; it is not applied again."""
    why = Refusal("command", f"reverted by {by.operator}" + (f": {reason}" if reason else ""))
    try:
        found = site.gateway.managed(response_id)
    except ClusterError as error:
        yield _unanswered(site, response_id, Refusal("not_reverted", str(error)), by, now, "failed")
        return
    for item in found:
        yield site.take_back(item, "reverted", why, now, by)
    known = site.ledger.get(response_id)
    if not found and known is not None and known.phase in STANDING:
        yield site.step(response_id, "reverted", why, now, by)
    elif not found and known is not None and known.phase in WAITING:
        yield site.step(response_id, "rejected", why, now, by)
    elif not found:
        message = f"response {response_id!r} has nothing in the cluster"
        yield _unanswered(site, response_id, Refusal("not_standing", message), by, now)


def _unanswered(
    site: Site, response_id: str, why: Refusal, by: Cause, now: float, outcome: Outcome = "refused"
) -> Action:
    return site.step(response_id, outcome, why, now, by)


def _not_waiting(response_id: str, known: Containment | None) -> Refusal:
    state = "is not known here" if known is None else f"is {known.phase}"
    return Refusal("not_waiting", f"response {response_id!r} {state} and waits for nobody")


def _named(who: Operator) -> str:
    return f"{who.person} ({who.key_id})"


def _person(by: Cause) -> str:
    return _person_of(by.operator or "")


def _person_of(operator: str) -> str:
    return operator.rsplit(" (", 1)[0]
