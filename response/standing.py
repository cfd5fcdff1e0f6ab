"""Whether what stands still does what was proven: the claim of a containment on the cluster as it is now."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property

from response.cluster_site import Site
from response.drops import drops_of, on_nodes
from response.ledger import Containment
from response.objects import QUARANTINE_LABEL, RESPONSE_LABEL
from response.plan import attack_pairs
from response.prove import NOTHING_TO_PROVE, AttackPair, Claim, Proof, prove
from response.settings import ResponseSettings
from schemas.policy.addresses import Span, span_of_address
from schemas.policy.cluster import ClusterView, Pod
from schemas.policy.dialects import kind_of, read_object
from schemas.policy.networkpolicy import NetworkPolicy, PolicyObject
from schemas.policy.words import DIALECTS, Dialect


def prove_standing(known: Containment, view: ClusterView, site: Site) -> Proof | None:
    """The proof of a containment on the cluster as it is; none where the ledger does not know what it claims."""
    decision = known.decision
    if decision is None or known.proof is None or known.proof.get("reason") == NOTHING_TO_PROVE:
        return None
    before = view.without(RESPONSE_LABEL, QUARANTINE_LABEL, known.response_id)
    pods = _subjects(known, view)
    try:
        wanted = attack_pairs(decision)
        pairs = tuple(filter(None, (_present(pair, known, view, pods) for pair in wanted)))
        spoken: Dialect = next((item for item in DIALECTS if item == known.proof.get("dialect")), "networkpolicy")
        isolates, drops = bool(known.proof.get("isolates")), drops_of(known.manifests)
        spares = bool(known.proof.get("spares_dns"))
        claim = Claim(before, view, pods, pairs, isolates, spoken, drops, spares)
        proof = prove(claim, site.settings)
    except ValueError:
        return None
    return _of_nobody(proof) if wanted and not pairs and not isolates else proof


def _of_nobody(proof: Proof) -> Proof | None:
    """What a proof about pods that are all away says: that others are allowed nothing more, or nothing at all."""
    if proof.narrower:
        return None
    return proof.model_copy(update={"reason": "widens", "message": proof.counterexample or ""})


class Backdrop:
    """What the proofs of all containments depend on in one view, worked out once for all of them."""

    def __init__(self, view: ClusterView, settings: ResponseSettings) -> None:
        self.view = view
        self._kept = frozenset((*settings.protected_namespaces, settings.dns_namespace))

    def relevant(self, known: Containment) -> str:
        """What the proof of a containment depends on, its own objects aside, as a hash.

        Where no other policy selects its pods, everything was allowed before, so that nothing can be allowed anew
        whoever else is in the cluster; only then the rest of the cluster does not matter.
        """
        view = self.view
        subjects = [pod for pod in map(view.pod, _subjects(known, view)) if pod is not None]
        near = (policy for name in {pod.namespace for pod in subjects} for policy in view.policies_of(name))
        others = [
            policy
            for policy in (*near, *view.objects)
            if policy.metadata.labels.get(RESPONSE_LABEL) != known.response_id
            and any(policy.selects(view, pod) for pod in subjects)
        ]
        digest = hashlib.sha256(self._everywhere)
        if others or view.unread:
            digest.update(self._every_pod)
        else:
            ends = {span_of_address(text) for pair in _pairs(known) for text in (pair.source, pair.destination)}
            named = [pod for end in ends for pod in (*view.pods_at(end), *self._on_hosts.get(end, ()))]
            digest.update(self._kept_pods + _digest(map(_pod_text, _each([*subjects, *named]))))
        digest.update(_digest(_policy_text(policy) for policy in sorted(others, key=lambda item: item.key)))
        return digest.hexdigest()

    @cached_property
    def _everywhere(self) -> bytes:
        spaces = sorted((name, sorted(labels.items())) for name, labels in self.view.namespaces.items())
        return _digest([repr(spaces), repr(sorted(item.why for item in self.view.unread))])

    @cached_property
    def _every_pod(self) -> bytes:
        return _digest(map(_pod_text, _each(self.view.pods)))

    @cached_property
    def _kept_pods(self) -> bytes:
        return _digest(map(_pod_text, _each(pod for name in self._kept for pod in self.view.pods_of(name))))

    @cached_property
    def _on_hosts(self) -> Mapping[Span, list[Pod]]:
        found: dict[Span, list[Pod]] = {}
        for pod in self.view.pods:
            for text in pod.ips if pod.host_network else ():
                found.setdefault(span_of_address(text), []).append(pod)
        return found


def _each(pods: Iterable[Pod]) -> list[Pod]:
    return [pod for _, pod in sorted({pod.key: pod for pod in pods}.items())]


def _pod_text(pod: Pod) -> str:
    labels = sorted((key, value) for key, value in pod.labels.items() if key != QUARANTINE_LABEL)
    taken = sorted(pod.taken.items())
    return repr((pod.key, labels, taken, pod.ips, pod.ports, pod.host_network, pod.node_ips, pod.service_account))


def _policy_text(policy: PolicyObject) -> str:
    said = policy.model_dump(mode="json", exclude={"metadata"})
    return f"{policy.key}{sorted(policy.metadata.labels.items())}{said}"


def _digest(texts: Iterable[str]) -> bytes:
    """One hash of some texts: of each its own first, so that no two lists of texts come to the same."""
    return hashlib.sha256(b"".join(hashlib.sha256(text.encode()).digest() for text in texts)).digest()


def _pairs(known: Containment) -> tuple[AttackPair, ...]:
    return attack_pairs(known.decision) if known.decision is not None else ()


def _subjects(known: Containment, view: ClusterView) -> tuple[str, ...]:
    """The pods that a containment is about now: a workload's policy follows its replicas."""
    if known.proof is not None and on_nodes(known.manifests):
        return tuple(str(key) for key in known.proof.get("pods", ()))
    policies = [read_object(dict(item)) for item in known.manifests if kind_of(item) is not None]
    if all(isinstance(policy, NetworkPolicy) for policy in policies):
        spaces = sorted({policy.metadata.namespace for policy in policies})
        pods = [pod for name in spaces for pod in view.pods_of(name)]
    else:
        pods = list(view.pods)
    return tuple(pod.key for pod in pods if any(policy.selects(view, pod) for policy in policies))


def _present(pair: AttackPair, known: Containment, view: ClusterView, pods: Iterable[str]) -> AttackPair | None:
    """The pair with the present addresses of the containment's own pods, or of what replaced them.

    None while such a pod is away or has no address yet: nobody can attack as it, so there is nothing to block.
    """
    decision = known.decision
    ends = (*decision.attackers, *decision.victims) if decision is not None else ()
    subjects = [pod for pod in map(view.pod, pods) if pod is not None and pod.ips]
    own = {str(key) for key in (known.proof or {}).get("pods", ())}
    for end in ends:
        if end.pod is None or end.ip not in (pair.source, pair.destination):
            continue
        key = f"{end.namespace}/{end.pod}"
        named = view.pod(key)
        alike = (pod for pod in subjects if pod.workload and pod.workload == end.workload)
        holder = named if named is not None else next(alike, None)
        if holder is None or not holder.ips:
            if key in own:
                return None
        elif end.ip not in holder.ips:
            moved = next((ip for ip in holder.ips if (":" in ip) == (":" in end.ip)), holder.ips[0])
            pair = replace(
                pair,
                source=moved if pair.source == end.ip else pair.source,
                destination=moved if pair.destination == end.ip else pair.destination,
            )
    return pair
