"""Stop a workload from opening connections to the attacked destinations; everything else stays open to it.

The policy allows all except the destinations, so it only narrows a workload that no other policy isolates for egress.
For one that is isolated already NetworkPolicy cannot take an allowance back: the proof fails and the next action is
tried.
"""

from __future__ import annotations

from response.blocked import blocked_peers
from response.guard import Refusal
from response.objects import all_but
from response.plan import Permission, Plan, PlanContext
from response.steps import workload_policies
from response.workload import select_workloads

NAME = "block_egress_destination"
TITLE = "Cut a workload from the destinations it attacks"
RBAC = (Permission("networking.k8s.io", "networkpolicies", ("get", "list", "create", "patch", "delete")),)


def plan(context: PlanContext) -> Plan | Refusal:
    """One policy for each attacking workload, or why there is none."""
    decision, view, settings = context.decision, context.view, context.settings
    subjects = select_workloads(decision.attackers, view, settings)
    if isinstance(subjects, Refusal):
        return subjects
    blocked = blocked_peers(decision.victims, view, settings)
    if isinstance(blocked, Refusal):
        return blocked
    rule = {"to": all_but(blocked.cidrs, blocked.workloads)}
    summary = f"block egress to {', '.join(blocked.names)}"
    return workload_policies(NAME, summary, subjects, {"policyTypes": ["Egress"], "egress": [rule]}, context)
