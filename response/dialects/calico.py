"""Calico: rules that deny, in a tier of our own that is asked before all others.

The last rule of each policy passes, so that whatever is not denied is judged as before; without it the tier's default
action would deny the rest. The tier is made by people, once: a tier changes what every policy of the cluster means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from response.blocked import Blocked
from response.guard import Refusal
from response.objects import QUARANTINE_LABEL, managed_object
from response.plan import Kept, Manifests, Permission, PlanContext
from response.steps import numbered, outside_cidrs, policy_annotations
from response.workload import Selection
from schemas.policy.calico import ADMIN_TIER_ORDER, tiers
from schemas.policy.cluster import NAMESPACE_NAME_LABEL, Pod
from schemas.policy.words import Dialect

NAME: Dialect = "calico"
TITLE = "Calico NetworkPolicy"
KEEPS_EGRESS = True
# Calico's API server asks for rights on the tier beside those on the policy.
RBAC = (
    Permission("projectcalico.org", "networkpolicies", ("get", "list", "create", "patch", "delete")),
    Permission("projectcalico.org", "tier.networkpolicies", ("get", "list", "create", "patch", "delete")),
    Permission("projectcalico.org", "tiers", ("get", "list")),
)
API = "projectcalico.org/v3"


def block_ingress(
    subjects: Sequence[Selection], blocked: Blocked, context: PlanContext, summary: str
) -> Manifests | Refusal:
    """Deny rules for the blocked sources, then Pass."""
    rules = [{"action": "Deny", "source": peer} for peer in _peers(blocked, context)]
    return _policies(subjects, "Ingress", rules, context, summary)


def block_egress(
    subjects: Sequence[Selection], blocked: Blocked, context: PlanContext, summary: str
) -> Manifests | Refusal:
    """Deny rules for the blocked destinations, then Pass."""
    rules = [{"action": "Deny", "destination": peer} for peer in _peers(blocked, context)]
    return _policies(subjects, "Egress", rules, context, summary)


def quarantine(pods: Sequence[Pod], context: PlanContext, summary: str) -> Manifests | Refusal:
    """Deny rules for everybody on labelled pods, one policy a namespace; what is kept is left to later tiers."""
    refusal = _refuse_tier(context)
    if refusal is not None:
        return refusal
    rules = [{"action": "Deny"}]
    kept = [rule for item in context.kept_egress for rule in _passing(item)]
    spec = {"types": ["Ingress", "Egress"], "ingress": rules, "egress": [*kept, *rules]}
    chosen = _selector({QUARANTINE_LABEL: context.decision.id})
    spaces = sorted({pod.namespace for pod in pods})
    return tuple(_object(space, context.object_name, chosen, spec, context, summary) for space in spaces)


def _passing(kept: Kept) -> Iterator[dict[str, Any]]:
    peer = (
        {"nets": list(kept.cidrs)}
        if kept.cidrs
        else {
            "namespaceSelector": _selector({NAMESPACE_NAME_LABEL: kept.namespace}),
            "selector": _selector(kept.labels),
        }
    )
    for protocol in dict.fromkeys(protocol for protocol, _ in kept.ports):
        ports = [port for name, port in kept.ports if name == protocol]
        yield {"action": "Pass", "protocol": protocol, "destination": {**peer, "ports": ports}}


def _refuse_tier(context: PlanContext) -> Refusal | None:
    """Why nothing can be written to the tier, or none."""
    name = context.settings.calico_tier
    if context.view.served[NAME] != API:
        message = f"{API} is not served: install Calico's API server, its stored objects must not be written"
        return Refusal("not_served", message)
    known = tiers(context.view.enforcing(frozenset((NAME,))))
    if name not in known:
        return Refusal("no_tier", f"Calico's tier {name!r} does not exist; docs/dialects.md shows how to make it")
    order = known[name][0]
    earlier = sorted(other for other, (found, _) in known.items() if other != name and found <= order)
    if earlier or order >= ADMIN_TIER_ORDER:
        message = (
            f"Calico's tier {name!r} is not asked before {', '.join(earlier) or 'administrators'}: lower its order"
        )
        return Refusal("late_tier", message)
    return None


def _policies(
    subjects: Sequence[Selection], direction: str, denying: list[dict[str, Any]], context: PlanContext, summary: str
) -> Manifests | Refusal:
    refusal = _refuse_tier(context)
    if refusal is not None:
        return refusal
    spec = {"types": [direction], direction.lower(): [*denying, {"action": "Pass"}]}
    return tuple(
        _object(subject.namespace, numbered(context, number), _selector(subject.labels), spec, context, summary)
        for number, subject in enumerate(subjects)
    )


def _peers(blocked: Blocked, context: PlanContext) -> list[dict[str, Any]]:
    """Addresses of hosts, and selectors of pods; a selector follows a workload's replicas wherever they go."""
    cidrs = outside_cidrs(blocked, context.view)
    pods = [
        {"namespaceSelector": _selector({NAMESPACE_NAME_LABEL: space}), "selector": _selector(labels)}
        for space, labels in blocked.workloads
    ]
    return [*([{"nets": list(cidrs)}] if cidrs else []), *pods]


def _selector(labels: Mapping[str, str]) -> str:
    """The expression for labels. Keys and values of labels hold no quotes; the evaluator reads it back to be sure."""
    return " && ".join(f"{key} == '{value}'" for key, value in sorted(labels.items()))


def _object(
    space: str, name: str, chosen: str, spec: dict[str, Any], context: PlanContext, summary: str
) -> dict[str, Any]:
    tier = context.settings.calico_tier
    notes = policy_annotations(context, summary)
    # Calico wants the tier's name before that of the policy.
    body = {"tier": tier, "order": 0, "selector": chosen, **spec}
    return managed_object(API, "NetworkPolicy", space, f"{tier}.{name}", context.decision.id, notes, body)
