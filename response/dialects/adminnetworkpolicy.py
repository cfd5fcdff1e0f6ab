"""AdminNetworkPolicy (v1alpha1), which came before ClusterNetworkPolicy and says the same."""

from __future__ import annotations

from response.admin_rules import TierWriter
from response.plan import Permission
from schemas.policy.words import Dialect

NAME: Dialect = "adminnetworkpolicy"
TITLE = "AdminNetworkPolicy"
KEEPS_EGRESS = True
RBAC = (
    Permission("policy.networking.k8s.io", "adminnetworkpolicies", ("get", "list", "create", "patch", "delete")),
    Permission("networking.k8s.io", "networkpolicies", ("get", "list", "create", "patch", "delete")),
)

_writer = TierWriter(NAME, TITLE)
block_ingress = _writer.block_ingress
block_egress = _writer.block_egress
quarantine = _writer.quarantine
