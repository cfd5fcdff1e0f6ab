"""ClusterNetworkPolicy (v1alpha2, v1beta1): rules of its admin tier that deny."""

from __future__ import annotations

from response.admin_rules import TierWriter
from response.plan import Permission
from schemas.policy.words import Dialect

NAME: Dialect = "clusternetworkpolicy"
TITLE = "ClusterNetworkPolicy"
KEEPS_EGRESS = True
RBAC = (
    Permission("policy.networking.k8s.io", "clusternetworkpolicies", ("get", "list", "create", "patch", "delete")),
    Permission("networking.k8s.io", "networkpolicies", ("get", "list", "create", "patch", "delete")),
)

_writer = TierWriter(NAME, TITLE, (("tier", "Admin"),))
block_ingress = _writer.block_ingress
block_egress = _writer.block_egress
quarantine = _writer.quarantine
