"""The NetworkPolicies and namespaces that an inventory tells of, valid in time."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.inventory import InventoryObject
from schemas.policy.inventory_view import policy_of
from schemas.policy.networkpolicy import NetworkPolicy
from schemas.statements import Statements


class PolicyTable:
    """Policies by namespace, and namespaces' labels.

    Attributes:
        told: how many statements about policies and namespaces came so far.
        policies_told: how many of them were about policies.
    """

    def __init__(self) -> None:
        self._policies, self._namespaces = Statements(), Statements()
        self.told = self.policies_told = 0

    def add(self, item: InventoryObject) -> None:
        """Take in a statement about a NetworkPolicy or a namespace."""
        self.told += 1
        if item.kind == "NetworkPolicy":
            self.policies_told += 1
            self._policies.add((item.namespace or "default", ""), item)
        else:
            self._namespaces.add((item.name, ""), item)

    def policies(self, namespace: str, at: int) -> tuple[NetworkPolicy, ...]:
        """Return the policies of a namespace at a time (s since epoch)."""
        return tuple(policy_of(item) for item in self._policies.valid((namespace, ""), at))

    def labels(self, namespace: str, at: int) -> Mapping[str, str]:
        """Return a namespace's labels at a time; none where it is not known."""
        return next((item.labels for item in self._namespaces.valid((namespace, ""), at)), {})

    def changed(self, namespace: str, at: int) -> int:
        """Return when a policy or label of a namespace last changed until a time, s since epoch."""
        group = (namespace, "")
        return max(self._policies.changed(group, at), self._namespaces.changed(group, at))
