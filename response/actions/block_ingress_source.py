"""Stop the attackers from opening connections to the attacked workload; everybody else still can.

The mirror image of block_egress_destination, with the same limit where only NetworkPolicy is spoken: a workload that
another policy isolates for ingress cannot be closed further by adding one.
"""

from __future__ import annotations

from response.blocked import blocked_peers
from response.guard import Refusal
from response.plan import Permission, Plan, PlanContext, load_dialects
from response.steps import workload_policies
from response.workload import select_workloads

NAME = "block_ingress_source"
TITLE = "Close a workload to the sources that attack it"
RBAC = (Permission("networking.k8s.io", "networkpolicies", ("get", "list", "create", "patch", "delete")),)

IN_DIALECTS = True


def plan(context: PlanContext) -> Plan | Refusal:
    """One policy for each attacked workload, or why there is none."""
    decision, view, settings = context.decision, context.view, context.settings
    subjects = select_workloads(decision.victims, view, settings)
    if isinstance(subjects, Refusal):
        return subjects
    blocked = blocked_peers(decision.attackers, view, settings)
    if isinstance(blocked, Refusal):
        return blocked
    summary = f"block ingress from {', '.join(blocked.names)}"
    written = load_dialects()[context.dialect].block_ingress(subjects, blocked, context, summary)
    return workload_policies(NAME, summary, subjects, written)
