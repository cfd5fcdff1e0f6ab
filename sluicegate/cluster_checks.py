"""What ``sluicegate doctor --cluster`` looks at: dialects of policy, who enforces them, and the rights of actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

from response.enforcers import DialectStatus, Enforcement, enforcement_of
from response.gateway import ClusterError
from response.kube import KubeGateway
from response.plan import load_actions
from response.settings import OptIn, ResponseSettings
from schemas.policy.cluster import ClusterView
from sluicegate.check_finding import Finding


@dataclass(frozen=True)
class ProbePlace:
    """Where a probe may make its pods, of which image, and how many s an enforcer may take."""

    namespace: str
    image: str
    seconds: int


def cluster_checks(
    settings: ResponseSettings, kubeconfig: Path | None, context: str | None, place: ProbePlace | None = None
) -> Iterator[Finding]:
    """Read the cluster once, and say what was found; nothing is written unless there is a place for a probe."""
    view = read_cluster(kubeconfig, context)
    if isinstance(view, Finding):
        yield view
        return
    yield from findings_of(view, settings)
    try:
        with closing(KubeGateway(kubeconfig, context)) as gateway:
            yield from rights_of_actions(gateway.may, settings)
            if place is not None:
                yield probed(gateway, place)
    except ClusterError as error:
        yield Finding("rights", "missing", str(error), "check the kubeconfig, its context and its rights")


def probed(gateway: KubeGateway, place: ProbePlace) -> Finding:
    """Whether policies stop connections, as pods of our own found out."""
    try:
        found = gateway.probe(place.namespace, place.image, place.seconds)
    except ClusterError as error:
        return Finding("probe", "missing", f"not found out: {error}", "see docs/dialects.md for what a probe needs")
    between = f"between pods on {found.nodes[1] or '?'} and {found.nodes[0] or '?'}"
    open_ways = [way.lower() for way, stopped in found.stops.items() if not stopped]
    if open_ways:
        text = f"NETWORKPOLICY IS NOT ENFORCED for {' and '.join(open_ways)} {between}: open after {place.seconds} s"
        return Finding("probe", "missing", text, "install an enforcer; until then containment by policy stops nothing")
    return Finding("probe", "ok", f"NetworkPolicy stops new connections, ingress and egress, {between}")


def rights_of_actions(may: Callable[[str, str, str], bool], settings: ResponseSettings) -> Iterator[Finding]:
    """A line for each action: whether it is wanted at all, and what it may not do that it needs.

    `may` says whether this process has a verb on a group's resource; of one right it is asked once.
    """
    asked = cache(may)
    for name, module in sorted(load_actions().items()):
        if name in get_args(OptIn) and name not in settings.opt_in:
            yield Finding(name, "off", "must be asked for", f"response.opt_in: [{name}]")
            continue
        needed = [(verb, right) for right in module.RBAC for verb in right.verbs]
        denied = [f"{verb} {right.resource}" for verb, right in needed if not asked(verb, right.group, right.resource)]
        if denied:
            yield Finding(name, "off", f"not allowed: {', '.join(denied)}", "grant it, if the policy file names it")
        else:
            yield Finding(name, "ok", "may do what it needs")


def read_cluster(kubeconfig: Path | None, context: str | None) -> ClusterView | Finding:
    """The cluster as it is, or a finding about why it cannot be read."""
    try:
        with closing(KubeGateway(kubeconfig, context)) as gateway:
            return gateway.view()
    except ClusterError as error:
        return Finding("cluster", "missing", str(error), "check the kubeconfig, its context and its rights")


def findings_of(view: ClusterView, settings: ResponseSettings) -> Iterator[Finding]:
    """The lines of the report on a cluster as it was read."""
    found = enforcement_of(view, settings)
    yield _enforcers(found)
    yield from (_dialect(item) for item in found.dialects)
    yield from (Finding("unread", "missing", item.why, "plans that it concerns are refused") for item in view.unread)


def _enforcers(found: Enforcement) -> Finding:
    known = [item for item in found.running if item.enforcer.name != "istio"]
    if not known:
        if found.flannel:
            text = "FLANNEL ALONE: NO POLICY IS ENFORCED HERE, whatever the API server accepts"
            return Finding("enforcer", "missing", text, "install an enforcer, for example kube-router or Calico's")
        text = "NO ENFORCER WAS RECOGNISED: a policy that is accepted may stop nothing"
        return Finding("enforcer", "missing", text, "see docs/dialects.md for those that are known; try one by hand")
    words = [f"{item.enforcer.name} on {item.nodes} of {found.nodes or item.nodes} nodes" for item in known]
    gaps = [item.enforcer.name for item in known if item.nodes < found.nodes]
    if gaps:
        remedy = f"pods on nodes without {', '.join(gaps)} are not protected: find out why it does not run there"
        return Finding("enforcer", "missing", ", ".join(words), remedy)
    return Finding("enforcer", "ok", ", ".join(words))


def _dialect(status: DialectStatus) -> Finding:
    if not status.served:
        text = "not served"
    elif status.enforcers:
        text = f"served as {status.served}, enforced by {', '.join(status.enforcers)}"
    elif status.perhaps:
        text = f"served as {status.served}; whether {', '.join(status.perhaps)} enforces it depends on its version"
    else:
        text = f"served as {status.served}, and nobody was seen to enforce it"
    text += f"; set to {status.mode}"
    remedy = "" if status.mode == status.advice else f"response.dialects.{status.dialect}: {status.advice}"
    if not status.served and status.mode != "enforce":
        return Finding(status.dialect, "off", text)
    if status.mode == "enforce" and status.advice != "enforce":
        # Plans would be applied that nobody carries out.
        return Finding(status.dialect, "missing", text, remedy)
    return Finding(status.dialect, "ok" if status.enforcers else "off", text, remedy)
