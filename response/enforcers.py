"""Who enforces policy in a cluster, told by the pods that run on its nodes; and which dialects that means.

What a version or a switch of an enforcer decides is not claimed: a dialect that is enforced only sometimes is left to
people. Nothing is written and no packet is sent to find out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from response.settings import DialectMode, ResponseSettings
from schemas.policy.cluster import ClusterView, Pod
from schemas.policy.words import DIALECTS, Dialect


@dataclass(frozen=True, slots=True)
class Enforcer:
    """A kind of agent: the labels of its pods, the dialects that it always enforces, and those that depend."""

    name: str
    labels: tuple[tuple[str, str], ...]
    enforces: tuple[Dialect, ...] = ()
    depends: tuple[Dialect, ...] = ()


# Labels as the projects' own manifests and charts set them.
ENFORCERS = (
    Enforcer("cilium", (("k8s-app", "cilium"),), ("networkpolicy", "cilium"), ("clusternetworkpolicy",)),
    Enforcer(
        "calico", (("k8s-app", "calico-node"),), ("networkpolicy", "calico"), (
            "adminnetworkpolicy", "clusternetworkpolicy",
        ),
    ),
    Enforcer("canal", (("k8s-app", "canal"),), ("networkpolicy", "calico")),
    Enforcer("kube-router", (("k8s-app", "kube-router"),), ("networkpolicy",)),
    Enforcer("kindnet", (("app", "kindnet"),), (), ("networkpolicy", "adminnetworkpolicy", "clusternetworkpolicy")),
    Enforcer("antrea", (("app", "antrea"), ("component", "antrea-agent")), ("networkpolicy",), ("adminnetworkpolicy",)),
    Enforcer("ovn-kubernetes", (("app", "ovnkube-node"),), ("networkpolicy",), ("adminnetworkpolicy",)),
    Enforcer("weave", (("name", "weave-net"),), ("networkpolicy",)),
    Enforcer("kube-network-policies", (("app", "kube-network-policies"),), ("networkpolicy",), (
        "adminnetworkpolicy", "clusternetworkpolicy",
    )),
    Enforcer("aws-node", (("k8s-app", "aws-node"),), (), ("networkpolicy",)),
    Enforcer("istio", (("app", "istiod"),), ("istio",)),
)  # fmt: skip
_FLANNEL = ({"app": "flannel"}, {"k8s-app": "flannel"}, {"k8s-app": "kube-flannel-ds"})


@dataclass(frozen=True, slots=True)
class Running:
    """An enforcer that was found, and on how many of the known nodes."""

    enforcer: Enforcer
    nodes: int


@dataclass(frozen=True, slots=True)
class DialectStatus:
    """What is known of one dialect: is it served, who enforces it, who may, what is set, and what should be."""

    dialect: Dialect
    served: str
    enforcers: tuple[str, ...]
    perhaps: tuple[str, ...]
    mode: DialectMode
    advice: DialectMode


@dataclass(frozen=True, slots=True)
class Enforcement:
    """What a look at a cluster tells. `paper`: nothing that was recognised enforces any policy."""

    running: tuple[Running, ...]
    nodes: int
    flannel: bool
    paper: bool
    dialects: tuple[DialectStatus, ...]


def enforcement_of(view: ClusterView, settings: ResponseSettings) -> Enforcement:
    """Who enforces what in a cluster, against what is set."""
    # Pods of one node share its addresses; the first one names it.
    nodes = {pod.node_ips[0] for pod in view.pods if pod.node_ips}
    running = tuple(Running(item, count) for item in ENFORCERS if (count := _nodes_of(item, view)))
    return Enforcement(
        running=running,
        nodes=len(nodes),
        flannel=any(_has(pod, labels) for pod in view.pods for labels in _FLANNEL),
        paper=not any(item.enforcer.name != "istio" for item in running),
        dialects=tuple(_status(dialect, running, view, settings) for dialect in DIALECTS),
    )


def _nodes_of(enforcer: Enforcer, view: ClusterView) -> int:
    found = [pod for pod in view.pods if _has(pod, dict(enforcer.labels))]
    return len({pod.node_ips[0] for pod in found if pod.node_ips}) or len(found)


def _has(pod: Pod, labels: Mapping[str, str]) -> bool:
    return labels.items() <= dict(pod.labels).items()


def _status(
    dialect: Dialect, running: tuple[Running, ...], view: ClusterView, settings: ResponseSettings
) -> DialectStatus:
    served = view.served.get(dialect, "")
    surely = tuple(item.enforcer.name for item in running if dialect in item.enforcer.enforces)
    perhaps = tuple(item.enforcer.name for item in running if dialect in item.enforcer.depends)
    advice: DialectMode = "enforce" if served and surely else "dry-run" if served and perhaps else "off"
    if dialect == "networkpolicy" and not surely:
        # An enforcer that runs outside of pods cannot be seen; nothing is claimed either way.
        advice = "dry-run"
    return DialectStatus(dialect, served, surely, perhaps, settings.dialects[dialect], advice)
