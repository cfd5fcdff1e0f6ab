"""Lock the attacking workload to those whom it talked to in the last day, the attack's own peers left out.

Everything that edges.v1 knows of it stays possible, on the same ports and in the same direction; whatever else an
attacker on it tries is cut. DNS and protected namespaces stay. A workload that nothing is known of yet is refused: it
would be cut from all.
"""

from __future__ import annotations

from typing import Any

from response.baseline import dns_rules, edge_names, peer_rules, protected_rules
from response.guard import Refusal
from response.objects import policy_object
from response.plan import Permission, Plan, PlanContext
from response.steps import numbered, policy_annotations, workload_policies
from response.workload import Selection, select_workloads
from schemas.policy.networkpolicy import PROTOCOLS

NAME = "allow_only_baseline"
TITLE = "Lock a workload to the peers of its last day"
RBAC = (Permission("networking.k8s.io", "networkpolicies", ("get", "list", "create", "patch", "delete")),)

# Peers of one direction: a workload that talks to more has no baseline that people could read.
MAX_RULES = 64


def plan(context: PlanContext) -> Plan | Refusal:
    """One policy for each attacking workload, or why there is none."""
    subjects = select_workloads(context.decision.attackers, context.view, context.settings)
    if isinstance(subjects, Refusal):
        return subjects
    target = ", ".join(subject.text() for subject in subjects)
    summary = f"lock {target} to the peers of its last day"
    notes = policy_annotations(context, summary)
    manifests: list[dict[str, Any]] = []
    for number, subject in enumerate(subjects):
        spec = _spec(subject, context)
        if isinstance(spec, Refusal):
            return spec
        name = numbered(context, number)
        manifests.append(policy_object(subject.namespace, name, context.decision.id, notes, spec))
    return workload_policies(NAME, summary, subjects, tuple(manifests))


def _spec(subject: Selection, context: PlanContext) -> dict[str, Any] | Refusal:
    workload = subject.workload or f"Pod/{subject.pods[0].partition('/')[2]}"
    known = context.edges.of(subject.namespace, workload)
    attacked = {name for end in context.decision.victims for name in edge_names(end)}
    kept = [talk for talk in known if talk.peer not in attacked and talk.protocol in PROTOCOLS]
    if not kept:
        message = f"nothing is known of whom {subject.text()} talks to, but for the attack: it would be cut from all"
        return Refusal("no_baseline", message)
    egress = list(peer_rules((talk for talk in kept if talk.initiated), "to", context))
    ingress = list(peer_rules((talk for talk in kept if not talk.initiated), "from", context))
    if len(egress) > MAX_RULES or len(ingress) > MAX_RULES:
        message = (
            f"{subject.text()} talks to {max(len(egress), len(ingress))} peers; at most {MAX_RULES} are written down"
        )
        return Refusal("too_many_peers", message)
    return {
        "podSelector": {"matchLabels": subject.labels},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [*ingress, *protected_rules("from", context)],
        "egress": [*egress, *dns_rules(context), *protected_rules("to", context)],
    }
