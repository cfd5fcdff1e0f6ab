"""Workloads that came to a node: what is learned on a node begins for them with their first pod there."""

from __future__ import annotations

from detectors.base import TickView
from schemas.finding import Endpoint


def arrived(view: TickView, pod: Endpoint, least: int) -> int | None:
    """Return when the first pod of a pod's workload came to its node, s since epoch.

    None where it did not come there from elsewhere: no other pod of it had been there for longer than that before, or
    the inventory does not say which workload or node it is.

    Args:
        view: of the tick.
        pod: as the inventory names it at that tick.
        least: s that the workload must have been elsewhere before.
    """
    if not pod.workload or not pod.namespace or not pod.node:
        return None
    since = view.identities.pods.workload_since
    here, born = since(pod.namespace, pod.workload, pod.node), since(pod.namespace, pod.workload)
    return here if here is not None and born is not None and here - born > least else None
