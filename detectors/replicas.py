"""The replicas of workloads among which Services share out new connections, and how many each got in a minute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import WorkloadRows
from schemas.addresses import unpack
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject

Names = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Shares:
    """One workload's minute.

    Attributes:
        workload: namespace/kind/name.
        services: names of the Services that lead to it, sorted.
        counts: new connections by address of each ready replica, those without any too.
    """

    workload: str
    services: tuple[str, ...]
    counts: dict[str, int]


def shares(rows: WorkloadRows, minute: int, identities: IdentityTable, settle: int) -> Iterator[Shares]:
    """Return workloads whose replicas should get alike, by name.

    Left out are workloads of which the minute cannot say that: fewer than two replicas, a Service whose endpoints
    changed less than ``settle`` s before, that keeps clients (session affinity, traffic policy Local) or leaves the
    choice to them (headless), and those of which a replica's node reported nothing.

    Args:
        rows: of the tick.
        minute: s since epoch.
        identities: who had which address.
        settle: s.
    """
    chosen = np.flatnonzero(rows.column("minute") == minute)
    nodes = set(rows.column("node")[chosen].tolist())
    got = _connections(rows, chosen)
    for workload, ever in sorted(_workloads(identities, got, minute).items()):
        told = {service: identities.service(*service, minute) for service in ever}
        services = tuple(service for service, item in told.items() if item is not None)
        if not all(_shares_out(item) for item in told.values() if item is not None):
            continue
        if any(identities.cluster.endpoints.changed(service, minute) > minute - settle for service in services):
            continue
        members = _members(identities, workload, services, minute)
        if len(members) > 1 and all(not node or node in nodes for node in members.values()):
            names = tuple(f"{namespace}/{name}" for namespace, name in services)
            yield Shares(workload, names, {ip: got.get(ip, 0) for ip in sorted(members)})


def _connections(rows: WorkloadRows, chosen: npt.NDArray[Any]) -> dict[str, int]:
    """Return new connections by address, of whatever node."""
    counts: dict[str, int] = {}
    addresses, flows = rows.column("address")[chosen], rows.column("flows_in")[chosen]
    for address, count in zip(addresses, flows.tolist(), strict=True):
        ip = unpack(address.tobytes())
        counts[ip] = counts.get(ip, 0) + count
    return counts


def _workloads(identities: IdentityTable, got: dict[str, int], at: int) -> dict[str, Names]:
    """Return the workloads with these addresses, and all Services that ever led to any of them."""
    found: dict[str, set[tuple[str, str]]] = {}
    for ip in got:
        services = identities.cluster.services_of(ip)
        name = _workload(identities.find(ip, at)) if services else ""
        if name:
            found.setdefault(name, set()).update(services)
    return {name: tuple(sorted(services)) for name, services in found.items()}


def _workload(item: InventoryObject | None) -> str:
    """Return namespace/kind/name of a pod's owner; empty where it is no pod or has none."""
    return f"{item.namespace}/{item.workload}" if item is not None and item.kind == "Pod" and item.workload else ""


def _shares_out(service: InventoryObject) -> bool:
    """Tell whether the cluster chooses a replica for each new connection; of a headless Service clients do."""
    return bool(service.ips) and not service.session_affinity and not service.local_traffic


def _members(identities: IdentityTable, workload: str, services: Names, at: int) -> dict[str, str]:
    """Return the ready replicas' addresses with the node of each, empty where it is not told."""
    ready: dict[str, str] = {}
    for service in services:
        for told in identities.cluster.endpoints.valid(service, at):
            for endpoint in told.endpoints:
                if endpoint.ready and not endpoint.terminating:
                    ready[endpoint.address] = endpoint.node
    return {ip: node for ip, node in ready.items() if _workload(identities.find(ip, at)) == workload}
