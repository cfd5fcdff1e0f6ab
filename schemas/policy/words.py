"""The words that policies of every dialect share."""

from __future__ import annotations

from typing import Literal

Direction = Literal["Ingress", "Egress"]
Transport = Literal["TCP", "UDP", "SCTP"]
DIRECTIONS: tuple[Direction, ...] = ("Ingress", "Egress")
PROTOCOLS: tuple[Transport, ...] = ("TCP", "UDP", "SCTP")

Word = Literal["allow", "deny", "pass"]

# Which points a block of addresses covers is left open by the API: every address, those of no pod ("outside"), or
# those of neither a pod nor a node ("world"). A claim must hold in both of READINGS; enforcers of which it is known
# map them to their own.
IpBlockReading = Literal["every", "outside", "world"]
READINGS: tuple[IpBlockReading, ...] = ("every", "outside")

# Whose language a policy object is written in, in the order in which an action is tried: what denies exactly before
# what can only allow all the rest.
Dialect = Literal["cilium", "calico", "clusternetworkpolicy", "adminnetworkpolicy", "istio", "networkpolicy"]
DIALECTS: tuple[Dialect, ...] = (
    "cilium", "calico", "clusternetworkpolicy", "adminnetworkpolicy", "networkpolicy", "istio",
)  # fmt: skip
