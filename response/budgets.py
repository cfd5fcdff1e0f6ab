"""How much may be contained at all: what an attacker cannot make us exceed, whatever he makes us see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from response.guard import Refusal
from response.ledger import STANDING, Ledger
from response.plan import Plan, harmless
from response.settings import BudgetSettings
from schemas.policy.cluster import ClusterView

_MINUTE_S = 60.0


def refuse_budget(
    plan: Plan, response_id: str, ledger: Ledger, view: ClusterView, now: float, budgets: BudgetSettings
) -> Refusal | None:
    """Why a plan would be too much, or none; what the response has already is not counted against it."""
    if harmless(plan.action):
        return None
    own = ledger.get(response_id)
    if own is not None and own.phase in STANDING:
        return None
    standing = [item for item in ledger.all(STANDING) if not harmless(item.action)]
    if len(standing) >= budgets.cluster:
        return Refusal("budget_cluster", f"{len(standing)} containments stand already; at most {budgets.cluster}")
    if ledger.applied_since(now - _MINUTE_S) >= budgets.per_minute:
        message = f"{budgets.per_minute} containments were applied in the last minute, which is the most allowed"
        return Refusal("budget_minute", message)
    held = Counter(name for item in standing for name in namespaces_of(item.manifests))
    for name in sorted(namespaces_of(plan.manifests)):
        if held[name] >= budgets.per_namespace:
            message = f"{held[name]} containments stand in namespace {name}; at most {budgets.per_namespace}"
            return Refusal("budget_namespace", message)
    return _refuse_share(plan, ledger, view, budgets.replica_share) if plan.isolates else None


def overrun(ledger: Ledger, now: float, budgets: BudgetSettings) -> Refusal | None:
    """Why everything should stop, or none."""
    applied = ledger.applied_since(now - 3600)
    if applied < budgets.stop_after:
        return None
    message = f"{applied} containments were applied within an hour; no more until it has passed or somebody says resume"
    return Refusal("budget_stop", message)


def namespaces_of(manifests: Iterable[dict[str, object]]) -> set[str]:
    """The namespaces that some manifests touch."""
    found = (item.get("metadata") for item in manifests)
    return {str(item.get("namespace", "")) for item in found if isinstance(item, dict)} - {""}


def isolated_pods(ledger: Ledger) -> set[str]:
    """Keys of pods that standing containments isolate."""
    return {
        str(key)
        for item in ledger.all(STANDING)
        if item.proof is not None and item.proof.get("isolates")
        for key in item.proof.get("pods", ())
    }


def _refuse_share(plan: Plan, ledger: Ledger, view: ClusterView, share: float) -> Refusal | None:
    isolated = isolated_pods(ledger) | set(plan.pods)
    workloads = {(pod.namespace, pod.workload) for pod in map(view.pod, plan.pods) if pod is not None and pod.workload}
    for namespace, workload in sorted(workloads):
        replicas = [pod.key for pod in view.pods if (pod.namespace, pod.workload) == (namespace, workload)]
        cut = sum(key in isolated for key in replicas)
        if cut > 1 and cut > share * len(replicas):
            message = f"{cut} of {len(replicas)} pods of {namespace}/{workload} would be isolated; at most {share:.0%}"
            return Refusal("budget_replicas", message)
    return None
