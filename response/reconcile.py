"""Bringing the ledger and the cluster together: the objects in the cluster are the truth, the ledger says why.

The order matters: what must go goes before what should stay is looked after.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from response.allowlist import allowing
from response.cluster_site import Site
from response.drift import Drift, find_drift, with_expiry
from response.drops import NODE_COMMAND, drops_of
from response.enforce import carry_out, seconds
from response.gateway import ClusterError, Managed
from response.guard import Refusal
from response.ledger import STANDING, WAITING, Containment, time_to_live
from response.objects import MANAGED_LABEL, MANAGER, QUARANTINE_LABEL, RESPONSE_LABEL
from response.plan import attack_pairs
from response.prove import AttackPair, Claim, Proof, prove
from schemas.action import Action, Outcome
from schemas.policy.cluster import ClusterView
from schemas.policy.dialects import kind_of, read_object
from schemas.policy.words import DIALECTS, Dialect
from schemas.word import iso_time

_NEEDS_A_HAND = frozenset({"approve", "enforce"})


class Reconciler:
    """Looks after a site; remembers only what the cluster looked like when everything was last proven."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._proven = ""

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
        for known in site.ledger.all(STANDING):
            held = managed.get(known.response_id)
            action = self._ended(known, held, view, now) or self._drifted(known, held, view, now)
            if action is not None:
                yield action
                if action.outcome == "drifted":
                    broken.add(known.response_id)
        yield from self._prove_again(broken, now)
        yield from self._waiting(now)

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
        personal = known.proof is not None and (known.proof.get("isolates") or _on_nodes(known))
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
        drift = find_drift(known.manifests, item, view) if known.manifests else None
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
        self._proven = ""
        return site.step(known.response_id, "repaired", Refusal("drift", drift.text), now)

    def _finish(self, known: Containment, item: Managed | None, outcome: Outcome, why: Refusal, now: float) -> Action:
        if item is None:
            return self._site.step(known.response_id, outcome, why, now)
        return self._site.take_back(item, outcome, why, now)

    def _prove_again(self, broken: set[str], now: float) -> Iterator[Action]:
        """Prove what stands on the cluster as it is, if anything but our own objects changed since the last time.

        What could not be repaired proves nothing about the others' policies and is left for the next look.
        """
        site = self._site
        standing = [item for item in site.ledger.all(STANDING) if item.manifests and item.response_id not in broken]
        if not standing:
            return
        view = site.gateway.view()
        seen = fingerprint(view)
        if seen == self._proven:
            return
        managed = {item.response_id: item for item in self._managed()}
        for known in standing:
            proof = prove_standing(known, view, site)
            if proof is None or proof.holds:
                continue
            why = Refusal(proof.reason, f"no longer holds: {proof.message}")
            yield self._finish(known, managed.get(known.response_id), "cancelled", why, now)
            decision = known.decision
            if decision is not None:
                # The next rung may still do it; what needed approval needs it again.
                yield from carry_out(site, decision, now)
        self._proven = "" if broken else seen

    def _waiting(self, now: float) -> Iterator[Action]:
        """Proposals that lapse, and deadlines that passed without containment; each is told once."""
        site = self._site
        for known in site.ledger.all(WAITING | {"failed"}):
            decision = known.decision
            if decision is None:
                continue
            if not known.missed and decision.mode in _NEEDS_A_HAND and now > known.deadline:
                late = f"not contained {decision.deadline_s} s after the alert: {known.phase}, {known.message}"
                yield site.step(known.response_id, "missed", Refusal("deadline", late), now)
            if known.phase in WAITING and now - known.since > site.settings.upkeep.proposal_s:
                yield site.step(known.response_id, "expired", Refusal("lapsed", "nobody approved it in time"), now)


def prove_standing(known: Containment, view: ClusterView, site: Site) -> Proof | None:
    """The proof of a containment on the cluster as it is; none where the ledger does not know what it claims."""
    decision = known.decision
    if decision is None or known.proof is None:
        return None
    before = view.without(RESPONSE_LABEL, QUARANTINE_LABEL, known.response_id)
    pods = _subjects(known, view)
    try:
        pairs = tuple(_moved(pair, known, view, pods) for pair in attack_pairs(decision))
        spoken: Dialect = next((item for item in DIALECTS if item == known.proof.get("dialect")), "networkpolicy")
        isolates, drops = bool(known.proof.get("isolates")), drops_of(known.manifests)
        claim = Claim(before, view, pods, pairs, isolates, spoken, drops)
        return prove(claim, site.settings)
    except ValueError:
        return None


def fingerprint(view: ClusterView) -> str:
    """What a proof depends on, our own objects aside, as a hash."""
    digest = hashlib.sha256()
    for pod in sorted(view.pods, key=lambda item: item.key):
        labels = sorted((key, value) for key, value in pod.labels.items() if key != QUARANTINE_LABEL)
        digest.update(repr((pod.key, labels, pod.ips, pod.ports, pod.host_network)).encode())
    digest.update(repr(sorted((name, sorted(labels.items())) for name, labels in view.namespaces.items())).encode())
    for policy in sorted((*view.policies, *view.objects), key=lambda item: item.key):
        if policy.metadata.labels.get(MANAGED_LABEL) != MANAGER:
            said = policy.model_dump(mode="json", exclude={"metadata"})
            digest.update(f"{policy.key}{sorted(policy.metadata.labels.items())}{said}".encode())
    digest.update(repr(sorted(item.why for item in view.unread)).encode())
    return digest.hexdigest()


def _subjects(known: Containment, view: ClusterView) -> tuple[str, ...]:
    """The pods that a containment is about now: a workload's policy follows its replicas."""
    if _on_nodes(known) and known.proof is not None:
        return tuple(str(key) for key in known.proof.get("pods", ()))
    policies = [read_object(dict(item)) for item in known.manifests if kind_of(item) is not None]
    return tuple(pod.key for pod in view.pods if any(policy.selects(view, pod) for policy in policies))


def _on_nodes(known: Containment) -> bool:
    return any(item.get("kind") == NODE_COMMAND for item in known.manifests)


def _moved(pair: AttackPair, known: Containment, view: ClusterView, pods: Iterable[str]) -> AttackPair:
    """The pair with the present address of whichever side the containment is about, where its pod was replaced."""
    decision = known.decision
    ends = (*decision.attackers, *decision.victims) if decision is not None else ()
    present = [pod for pod in map(view.pod, pods) if pod is not None and pod.ips]
    for end in ends:
        if end.pod is None or view.pod(f"{end.namespace}/{end.pod}") is not None or not present:
            continue
        alike = next((pod for pod in present if pod.workload and pod.workload == end.workload), None)
        if alike is not None and pair.source == end.ip:
            pair = replace(pair, source=alike.ips[0])
        if alike is not None and pair.destination == end.ip:
            pair = replace(pair, destination=alike.ips[0])
    return pair
