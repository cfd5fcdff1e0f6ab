"""Stop a workload from opening connections to the attacked destinations; everything else stays open to it.

How that is written is the dialect's matter. Where only NetworkPolicy is spoken, the policy allows all except the
destinations; for a workload that is isolated already it cannot take an allowance back: the proof fails and the next
action is tried.
"""

from __future__ import annotations

from response.blocked import blocked_peers
from response.guard import Refusal
from response.plan import Permission, Plan, PlanContext, load_dialects
from response.steps import workload_policies
from response.workload import select_workloads

NAME = "block_egress_destination"
TITLE = "Cut a workload from the destinations it attacks"
RBAC = (Permission("networking.k8s.io", "networkpolicies", ("get", "list", "create", "patch", "delete")),)

IN_DIALECTS = True


def plan(context: PlanContext) -> Plan | Refusal:
    """One policy for each attacking workload, or why there is none."""
    decision, view, settings = context.decision, context.view, context.settings
    subjects = select_workloads(decision.attackers, view, settings)
    if isinstance(subjects, Refusal):
        return subjects
    blocked = blocked_peers(decision.victims, view, settings)
    if isinstance(blocked, Refusal):
        return blocked
    summary = f"block egress to {', '.join(blocked.names)}"
    written = load_dialects()[context.dialect].block_egress(subjects, blocked, context, summary)
    return workload_policies(NAME, summary, subjects, written)
