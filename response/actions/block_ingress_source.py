"""Stop the attackers from opening connections to the attacked workload; everybody else still can.

The mirror image of block_egress_destination, with the same limit: a workload that another policy isolates for ingress
cannot be closed further by adding a policy.
"""

from __future__ import annotations

from response.blocked import blocked_peers
from response.guard import Refusal
from response.objects import all_but
from response.plan import Permission, Plan, PlanContext
from response.steps import workload_policies
from response.workload import select_workloads

NAME = "block_ingress_source"
TITLE = "Close a workload to the sources that attack it"
RBAC = (Permission("networking.k8s.io", "networkpolicies", ("get", "list", "create", "patch", "delete")),)


def plan(context: PlanContext) -> Plan | Refusal:
    """One policy for each attacked workload, or why there is none."""
    decision, view, settings = context.decision, context.view, context.settings
    subjects = select_workloads(decision.victims, view, settings)
    if isinstance(subjects, Refusal):
        return subjects
    blocked = blocked_peers(decision.attackers, view, settings)
    if isinstance(blocked, Refusal):
        return blocked
    rule = {"from": all_but(blocked.cidrs, blocked.workloads)}
    summary = f"block ingress from {', '.join(blocked.names)}"
    return workload_policies(NAME, summary, subjects, {"policyTypes": ["Ingress"], "ingress": [rule]}, context)
