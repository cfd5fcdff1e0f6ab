"""Let only clients with a certificate of the mesh talk to the attacked workload (Istio, mTLS STRICT).

For plaintext within a mesh and for whoever goes around it. Clients in the mesh use their certificates by themselves;
everybody else is cut off, monitoring outside the mesh included: the proof says whom that hits.
"""

from __future__ import annotations

from response.dialects.istio import RBAC as MESH_RBAC
from response.dialects.istio import strict_mtls
from response.guard import Refusal
from response.plan import Permission, Plan, PlanContext
from response.steps import workload_policies
from response.workload import select_workloads

NAME = "demand_mtls"
TITLE = "Demand a certificate of the mesh from all clients of the attacked workload"
RBAC: tuple[Permission, ...] = tuple(item for item in MESH_RBAC if item.resource == "peerauthentications")

# It is written in one dialect only, and refused in the others with the reason.
IN_DIALECTS = True


def plan(context: PlanContext) -> Plan | Refusal:
    """One PeerAuthentication for each attacked workload, or why there is none."""
    if context.dialect != "istio":
        return Refusal("no_mesh", f"only Istio can demand certificates; {context.dialect} cannot")
    subjects = select_workloads(context.decision.victims, context.view, context.settings)
    if isinstance(subjects, Refusal):
        return subjects
    summary = f"demand mTLS of the clients of {', '.join(subject.text() for subject in subjects)}"
    return workload_policies(NAME, summary, subjects, strict_mtls(subjects, (), context, summary))
