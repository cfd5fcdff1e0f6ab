"""A fix for a misconfiguration: close the workload that is open to somebody to all but those whom it serves.

The policy lets in whom edges.v1 saw in the last day, on the same ports, and protected namespaces; the use that the
alert is about is left out. People decide about it: the decision matrix asks for approval, and the manifest shown is
theirs to keep. A workload that nothing is known of yet is refused: it would be closed to all.
"""

from __future__ import annotations

from typing import Any

from response.actions.allow_only_baseline import MAX_RULES
from response.baseline import edge_names, peer_rules, protected_rules
from response.edges import Talk
from response.guard import Refusal
from response.objects import policy_object
from response.plan import Permission, Plan, PlanContext
from response.steps import policy_annotations, workload_policies
from response.workload import Selection, select_workloads
from schemas.policy.networkpolicy import PROTOCOLS

NAME = "close_hole"
TITLE = "Close a workload to all but its peers of the last day"
RBAC = (Permission("networking.k8s.io", "networkpolicies", ("get", "list", "create", "patch", "delete")),)


def plan(context: PlanContext) -> Plan | Refusal:
    """One policy for the workload that is open to somebody, or why there is none."""
    subjects = select_workloads(context.decision.victims, context.view, context.settings)
    if isinstance(subjects, Refusal):
        return subjects
    if len(subjects) != 1:
        return Refusal("many_subjects", f"the alert names {len(subjects)} open workloads; each has peers of its own")
    rules = _rules(subjects[0], context)
    if isinstance(rules, Refusal):
        return rules
    summary = f"close {subjects[0].text()} to all but its peers of the last day"
    spec = {"podSelector": {"matchLabels": subjects[0].labels}, "policyTypes": ["Ingress"], "ingress": rules}
    notes = policy_annotations(context, summary)
    manifest = policy_object(subjects[0].namespace, context.object_name, context.decision.id, notes, spec)
    return workload_policies(NAME, summary, subjects, (manifest,))


def _rules(subject: Selection, context: PlanContext) -> list[dict[str, Any]] | Refusal:
    workload = subject.workload or f"Pod/{subject.pods[0].partition('/')[2]}"
    known = [talk for talk in context.edges.of(subject.namespace, workload) if not talk.initiated]
    kept = [talk for talk in known if talk.protocol in PROTOCOLS and not _is_the_hole(talk, context)]
    if not kept:
        message = f"nothing is known of whom {subject.text()} serves, but for what the alert is about"
        return Refusal("no_baseline", message)
    rules = list(peer_rules(kept, "from", context))
    if len(rules) > MAX_RULES:
        return Refusal(
            "too_many_peers", f"{subject.text()} serves {len(rules)} peers; at most {MAX_RULES} are written down"
        )
    return [*rules, *protected_rules("from", context)]


def _is_the_hole(talk: Talk, context: PlanContext) -> bool:
    ports = {end.port for end in context.decision.victims}
    named = {name for end in context.decision.attackers for name in edge_names(end)}
    return talk.peer in named and (None in ports or talk.port in ports)
