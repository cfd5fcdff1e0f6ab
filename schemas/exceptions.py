"""Whom the operator knows: selectors over identities, roles given to them, and findings not wanted about them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from schemas.finding import Endpoint, Finding
from schemas.roles import Role

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Side = Literal["attacker", "victim"]


@dataclass(frozen=True)
class Selector:
    """Some endpoints; of each list that is not empty, one entry must fit. Names may hold ``*`` and ``?``.

    An endpoint that no inventory names fits by ``cidrs`` and ``roles`` only.
    """

    namespaces: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()  # kind/name
    services: tuple[str, ...] = ()  # namespace/name
    labels: tuple[tuple[str, str], ...] = ()  # all of them must be there
    cidrs: tuple[Network, ...] = ()
    roles: tuple[Role, ...] = ()
    pods: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    def fits(self, endpoint: Endpoint) -> bool:
        """Tell whether an endpoint is meant."""
        return (
            _named(self.namespaces, endpoint.namespace)
            and _named(self.workloads, endpoint.workload)
            and _named(self.services, endpoint.service)
            and _named(self.pods, endpoint.pod)
            and _named(self.nodes, endpoint.node)
            and all(endpoint.labels.get(key) == value for key, value in self.labels)
            and (not self.cidrs or _inside(self.cidrs, endpoint.ip))
            and (not self.roles or any(role in endpoint.roles for role in self.roles))
        )


def _named(patterns: tuple[str, ...], name: str | None) -> bool:
    return not patterns or (name is not None and any(fnmatchcase(name, pattern) for pattern in patterns))


def _inside(networks: tuple[Network, ...], text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return any(address in network for network in networks)


@dataclass(frozen=True)
class RoleRule:
    """A role that the operator declares; its selector names no roles."""

    role: Role
    match: Selector


@dataclass(frozen=True)
class AlertException:
    """Findings that the operator does not want to hear about, and why.

    A finding is excepted only if it has endpoints on ``side`` and every one of them fits.
    """

    name: str
    reason: str
    match: Selector
    side: Side = "attacker"
    detectors: tuple[str, ...] = ()  # ids of built-in detectors
    rules: tuple[str, ...] = ()  # names of YAML rules
    expires: int | None = None  # s since epoch; from then on it is void

    def covers(self, finding: Finding, tick: int) -> bool:
        """Tell whether a finding of a tick (s since epoch) is one of these."""
        meant = finding.detector in self.detectors if finding.rule is None else finding.rule in self.rules
        if not meant or (self.expires is not None and tick >= self.expires):
            return False
        ends = finding.attackers if self.side == "attacker" else finding.victims
        return bool(ends) and all(self.match.fits(end) for end in ends)
