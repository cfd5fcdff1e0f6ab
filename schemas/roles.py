"""Roles that an address can be declared to have, and what they mean to those who judge alerts."""

from __future__ import annotations

from typing import Literal, get_args

Role = Literal[
    "resolver", "load_balancer", "monitoring_scraper", "nat_gateway", "ingress", "vulnerability_scanner", "shared",
]  # fmt: skip
ROLES: tuple[Role, ...] = get_args(Role)

# Many stand behind these: such an address is never one actor.
SHARED: frozenset[str] = frozenset({"shared", "load_balancer", "nat_gateway", "ingress"})
# Everyone talks to these: that two alerts name one of them as victim says little.
SERVING: frozenset[str] = SHARED | {"resolver"}
