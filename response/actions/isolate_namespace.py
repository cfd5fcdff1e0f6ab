"""Isolate everything in the attackers' namespaces in both directions, from each other too.

The last resort within the cluster: for an attacker who moves from workload to workload, or who may start pods. It holds
for pods that start later as well. Pods on the host network are not subject to any policy; they stay as they are.
"""

from __future__ import annotations

from response.guard import Refusal, refuse_subject, subject_of
from response.objects import policy_object
from response.plan import Permission, Plan, PlanContext
from response.steps import policies_plan, policy_annotations

NAME = "isolate_namespace"
TITLE = "Isolate all pods of the attackers' namespaces in both directions"
RBAC = (Permission("networking.k8s.io", "networkpolicies", ("get", "list", "create", "patch", "delete")),)

# Each pod is proven against every address that any policy mentions; a namespace of more is not one team's mistake.
MAX_PODS = 200


def plan(context: PlanContext) -> Plan | Refusal:
    """One policy for each namespace, or why there is none: one pod that must not be isolated refuses all."""
    view, settings = context.view, context.settings
    namespaces: set[str] = set()
    for endpoint in context.decision.attackers:
        pod = subject_of(endpoint, view, settings)
        if isinstance(pod, Refusal):
            return pod
        namespaces.add(pod.namespace)
    pods = [pod for pod in view.pods if pod.namespace in namespaces and not pod.host_network]
    if len(pods) > MAX_PODS:
        return Refusal("too_many_pods", f"{len(pods)} pods would be isolated; at most {MAX_PODS} are")
    for pod in pods:
        refusal = refuse_subject(pod, settings, view)
        if refusal is not None:
            return refusal
    target = ", ".join(sorted(namespaces))
    summary = f"isolate namespace {target}"
    notes = policy_annotations(context, summary)
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    manifests = tuple(
        policy_object(namespace, context.object_name, context.decision.id, notes, spec)
        for namespace in sorted(namespaces)
    )
    return policies_plan(NAME, target, summary, tuple(pod.key for pod in pods), manifests, isolates=True)
