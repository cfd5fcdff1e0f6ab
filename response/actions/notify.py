"""Write the record, and an Event on the pods where there are some; nothing else. The last rung of a ladder.

It is always possible, also on evidence that could be forged and about hosts that are no pods. It stops nothing, so no
deadline is met by it.
"""

from __future__ import annotations

from response.guard import Refusal
from response.marks import involved_pods
from response.plan import Permission, Plan, PlanContext

NAME = "notify"
TITLE = "Write the record and an Event, and nothing else"
RBAC = (Permission("", "events", ("create",)),)

NAMES_ATTACKERS = False
CONTAINS = False
HARMLESS = True


def plan(context: PlanContext) -> Plan | Refusal:
    """Nothing to write in the cluster; the step itself is the record."""
    decision = context.decision
    pods = involved_pods(context)
    keys = () if isinstance(pods, Refusal) else tuple(pod.key for pod in pods)
    ends = dict.fromkeys(end.ip for end in (*decision.attackers, *decision.victims) if end.ip)
    target = ", ".join(keys or tuple(ends)[:5])
    return Plan(
        action=NAME,
        target=target,
        summary=f"tell of {decision.kind}{f' about {target}' if target else ''}",
        pods=keys,
        manifests=(),
        undo=(),
        unproven="telling stops nothing, and nothing is claimed of it",
    )
