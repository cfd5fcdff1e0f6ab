"""What a plan must know of a cluster besides what every proof stands on; it is read for the actions that ask."""

from __future__ import annotations

from response.gateway import Gateway
from response.plan import details_of
from response.settings import ResponseSettings
from schemas.policy.cluster import ClusterView, Controller
from schemas.response import ResponseDecision


def with_details(
    view: ClusterView, decision: ResponseDecision, gateway: Gateway, settings: ResponseSettings
) -> ClusterView:
    """The view with what the decision's actions ask for. Raises ClusterError."""
    wanted = details_of(decision.actions, settings)
    if "controllers" in wanted:
        view = view.changed(controllers=_controllers(decision, gateway))
    if "nodes" in wanted:
        view = view.changed(nodes=gateway.nodes())
    return view


def _controllers(decision: ResponseDecision, gateway: Gateway) -> tuple[Controller, ...] | None:
    """Those of the attackers' namespaces; None if they cannot be read in one of them."""
    found: list[Controller] = []
    for namespace in sorted({end.namespace for end in decision.attackers if end.namespace}):
        listed = gateway.controllers(namespace)
        if listed is None:
            return None
        found += listed
    return tuple(found)
