"""Whether what stands still does what was proven: the claim of a containment on the cluster as it is now."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from response.cluster_site import Site
from response.drops import drops_of, on_nodes
from response.ledger import Containment
from response.objects import QUARANTINE_LABEL, RESPONSE_LABEL
from response.plan import attack_pairs
from response.prove import NOTHING_TO_PROVE, AttackPair, Claim, Proof, prove
from schemas.policy.cluster import ClusterView, Pod
from schemas.policy.dialects import kind_of, read_object
from schemas.policy.words import DIALECTS, Dialect


def prove_standing(known: Containment, view: ClusterView, site: Site) -> Proof | None:
    """The proof of a containment on the cluster as it is; none where the ledger does not know what it claims."""
    decision = known.decision
    if decision is None or known.proof is None or known.proof.get("reason") == NOTHING_TO_PROVE:
        return None
    before = view.without(RESPONSE_LABEL, QUARANTINE_LABEL, known.response_id)
    pods = _subjects(known, view)
    try:
        pairs = tuple(_moved(pair, known, view, pods) for pair in attack_pairs(decision))
        spoken: Dialect = next((item for item in DIALECTS if item == known.proof.get("dialect")), "networkpolicy")
        isolates, drops = bool(known.proof.get("isolates")), drops_of(known.manifests)
        spares = bool(known.proof.get("spares_dns"))
        claim = Claim(before, view, pods, pairs, isolates, spoken, drops, spares)
        return prove(claim, site.settings)
    except ValueError:
        return None


def relevant(known: Containment, view: ClusterView, site: Site) -> str:
    """What the proof of a containment depends on, its own objects aside, as a hash.

    Where no other policy selects its pods, everything was allowed before, so that nothing can be allowed anew whoever
    else is in the cluster; only then the rest of the cluster does not matter.
    """
    subjects = [pod for pod in map(view.pod, _subjects(known, view)) if pod is not None]
    others = [
        policy
        for policy in (*view.policies, *view.objects)
        if policy.metadata.labels.get(RESPONSE_LABEL) != known.response_id
        and any(policy.selects(view, pod) for pod in subjects)
    ]
    if others or view.unread:
        pods: Iterable[Pod] = view.pods
    else:
        settings = site.settings
        named = {pair.source for pair in _pairs(known)} | {pair.destination for pair in _pairs(known)}
        kept = {*settings.protected_namespaces, settings.dns_namespace}
        pods = [pod for pod in view.pods if pod in subjects or pod.namespace in kept or named.intersection(pod.ips)]
    digest = hashlib.sha256()
    for pod in sorted(pods, key=lambda item: item.key):
        labels = sorted((key, value) for key, value in pod.labels.items() if key != QUARANTINE_LABEL)
        digest.update(repr((pod.key, labels, pod.ips, pod.ports, pod.host_network)).encode())
    digest.update(repr(sorted((name, sorted(labels.items())) for name, labels in view.namespaces.items())).encode())
    for policy in sorted(others, key=lambda item: item.key):
        said = policy.model_dump(mode="json", exclude={"metadata"})
        digest.update(f"{policy.key}{sorted(policy.metadata.labels.items())}{said}".encode())
    digest.update(repr(sorted(item.why for item in view.unread)).encode())
    return digest.hexdigest()


def _pairs(known: Containment) -> tuple[AttackPair, ...]:
    return attack_pairs(known.decision) if known.decision is not None else ()


def _subjects(known: Containment, view: ClusterView) -> tuple[str, ...]:
    """The pods that a containment is about now: a workload's policy follows its replicas."""
    if known.proof is not None and on_nodes(known.manifests):
        return tuple(str(key) for key in known.proof.get("pods", ()))
    policies = [read_object(dict(item)) for item in known.manifests if kind_of(item) is not None]
    return tuple(pod.key for pod in view.pods if any(policy.selects(view, pod) for policy in policies))


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
