"""What each enforcer asks, in which order, before it lets a pod talk: the one place that knows how dialects combine.

- Kubernetes: admin tier, NetworkPolicies, baseline tier.
- Cilium: admin tier, all that denies, all that allows (NetworkPolicies are rules like its own), baseline tier.
- Calico: its tiers by their order; NetworkPolicies are in the tier `default`, admin and baseline tiers have their own.
- Istio: strict mTLS, AuthorizationPolicies that deny, then those that allow; ingress of pods in the mesh only.

A cluster with several enforcers lets through what all of them let through.
"""

from __future__ import annotations

from collections.abc import Callable

from schemas.policy import adminpolicy, calico, cilium, istio
from schemas.policy.cluster import ClusterView, Pod
from schemas.policy.layers import Pipeline, Stage
from schemas.policy.words import Direction

Maker = Callable[[ClusterView, Pod, Direction], Pipeline]


def pipelines(view: ClusterView, pod: Pod, direction: Direction) -> tuple[Pipeline, ...]:
    """What has a say on a pod in a direction; nothing if no policy does, and never anything on a host-network pod."""
    if pod.host_network:
        return ()
    makers: list[Maker] = []
    if "calico" in view.in_force:
        makers.append(calico.pipeline)
    if "cilium" in view.in_force:
        makers.append(_cilium)
    if not makers:
        makers.append(_kubernetes)
    if "istio" in view.in_force:
        makers.append(istio.pipeline)
    made = (maker(view, pod, direction) for maker in makers)
    return tuple(line for line in made if line.stages)


def _kubernetes(view: ClusterView, pod: Pod, direction: Direction) -> Pipeline:
    """The order that the API defines for its own kinds."""
    stages = [*adminpolicy.stages(view, pod, direction, "Admin"), *_networkpolicies(view, pod, direction)]
    return Pipeline("kubernetes", (*stages, *adminpolicy.stages(view, pod, direction, "Baseline")))


def _networkpolicies(view: ClusterView, pod: Pod, direction: Direction) -> tuple[Stage, ...]:
    isolating = view.policies_on(pod, direction)
    if not isolating:
        return ()
    clauses = tuple(clause for policy in isolating for clause in policy.clauses(direction))
    return (Stage(clauses, "deny", tuple(policy.key for policy in isolating)),)


def _cilium(view: ClusterView, pod: Pod, direction: Direction) -> Pipeline:
    stages = [*adminpolicy.stages(view, pod, direction, "Admin"), *cilium.stages(view, pod, direction)]
    made = (*stages, *adminpolicy.stages(view, pod, direction, "Baseline"))
    # Blocks never match pods; whether they match nodes is a setting of Cilium (policy-cidr-match-mode).
    return Pipeline("cilium", made, (("every", "outside"), ("outside", "world")))
