"""Note the incident on the pods of attackers and victims, and change nothing else.

For ladders whose other rungs are refused, and for those who are only to be told: whoever looks at the pod sees the
alert. It stops nothing, so no deadline is met by it.
"""

from __future__ import annotations

from response.guard import Refusal
from response.marks import involved_pods, mark, unmark
from response.plan import Permission, Plan, PlanContext

NAME = "annotate"
TITLE = "Note the incident on the pods, and change nothing else"
RBAC = (Permission("", "pods", ("get", "list", "patch")),)

NAMES_ATTACKERS = False
CONTAINS = False
HARMLESS = True


def plan(context: PlanContext) -> Plan | Refusal:
    """An annotation on each pod, or why there is none."""
    pods = involved_pods(context)
    if isinstance(pods, Refusal):
        return pods
    keys = tuple(pod.key for pod in pods)
    return Plan(
        action=NAME,
        target=", ".join(keys),
        summary=f"note {context.decision.kind} on {', '.join(keys)}",
        pods=keys,
        manifests=tuple(mark(pod, context) for pod in pods),
        undo=tuple(unmark(pod, context.decision.id) for pod in pods),
        unproven="a note on pods stops nothing, and nothing is claimed of it",
    )
