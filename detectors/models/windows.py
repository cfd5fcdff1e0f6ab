"""From the rows of a minute to one feature vector per workload."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectors.base import WorkloadRows
from schemas.addresses import unpack
from schemas.identity import IdentityTable

F64 = npt.NDArray[np.float64]
SECONDS = 60

SUMS = (
    "flows_out", "flows_in", "bytes_out", "bytes_in", "packets_out", "packets_in", "peers_out", "ports_out",
    "failed_out", "dns_queries", "dns_failures",
)  # fmt: skip


@dataclass(frozen=True)
class WindowFeature:
    """One number of a workload's minute.

    ``floor`` is the smallest spread believed, in the feature's own scale; ``least`` the value, in its unit,
    below which it is of no interest however unusual: a quiet service that stirs is no attack.
    """

    name: str
    unit: str
    floor: float
    least: float
    outward: bool  # what the workload does, not what is done to it
    technique: str


# Counts and bytes are compared as log1p: their spread is proportional to their size. Shares are damped by a
# few so that one failure of one is not everything.
FEATURES: tuple[WindowFeature, ...] = (
    WindowFeature("flows_out", "flows", 0.2, 50, outward=True, technique="T1046"),
    WindowFeature("flows_in", "flows", 0.2, 50, outward=False, technique="T1499"),
    WindowFeature("bytes_out", "IP bytes", 0.2, 500_000, outward=True, technique="T1048"),
    WindowFeature("bytes_in", "IP bytes", 0.2, 500_000, outward=False, technique="T1105"),
    WindowFeature("packets_out", "packets", 0.2, 500, outward=True, technique="T1498"),
    WindowFeature("packets_in", "packets", 0.2, 500, outward=False, technique="T1498"),
    WindowFeature("peers_out", "addresses", 0.2, 20, outward=True, technique="T1046"),
    WindowFeature("ports_out", "ports", 0.2, 20, outward=True, technique="T1046"),
    WindowFeature("failed_share", "of flows", 0.08, 20, outward=True, technique="T1046"),
    WindowFeature("dns_queries", "queries", 0.2, 60, outward=True, technique="T1071.004"),
    WindowFeature("dns_failed_share", "of queries", 0.08, 20, outward=True, technique="T1568.002"),
    WindowFeature("bytes_ratio", "bytes sent per byte received", 0.35, 500_000, outward=True, technique="T1048"),
)  # fmt: skip
NAMES = tuple(f.name for f in FEATURES)
COUNT = len(FEATURES)
FLOORS: F64 = np.array([f.floor for f in FEATURES])
LEAST: F64 = np.array([f.least for f in FEATURES])
LOGS = np.array([f.name in SUMS for f in FEATURES])
# What must reach ``least``: the value itself, and for a share or ratio the count above its line.
_WEIGHT = tuple(SUMS.index({"failed_share": "failed_out", "dns_failed_share": "dns_failures",
                            "bytes_ratio": "bytes_out"}.get(n, n)) for n in NAMES)  # fmt: skip
_DAMPING = 5.0  # flows or queries
_BYTES = 1000.0  # bytes on both sides of the ratio, so that a lone packet is no ratio


@dataclass(frozen=True)
class Minute:
    """The workloads of one minute, ordered by name; arrays have one row per workload."""

    minute: int
    names: list[str]
    x: F64  # (n, COUNT)
    weight: F64  # (n, COUNT): what ``least`` is compared with
    members: list[list[str]]  # addresses of the replicas that reported, those that sent most bytes first


def minutes(rows: WorkloadRows, identities: IdentityTable) -> list[Minute]:
    """Return the minutes of a tick, ascending.

    Outside addresses are left out: they are peers of workloads, not workloads.
    """
    ends = rows.column("minute")
    return [_minute(rows, int(m), np.flatnonzero(ends == m), identities) for m in np.unique(ends)]


def _minute(rows: WorkloadRows, minute: int, chosen: npt.NDArray[np.int64], identities: IdentityTable) -> Minute:
    packed = np.ascontiguousarray(rows.column("address")[chosen]).view("S16").reshape(-1)
    # numpy drops trailing zero bytes of S16 items only when they are taken out, so sorting and grouping are exact.
    _, first, number = np.unique(packed, return_index=True, return_inverse=True)
    sums = np.zeros((len(first), len(SUMS)))
    for place, name in enumerate(SUMS):
        sums[:, place] = np.bincount(number, weights=rows.column(name)[chosen], minlength=len(first))
    groups: dict[str, list[tuple[str, int]]] = {}
    for place, row in enumerate(first):
        ip = unpack(rows.column("address")[chosen[row]].tobytes())
        workload = workload_name(identities, ip, minute)
        if workload is not None:
            groups.setdefault(workload, []).append((ip, place))
    names = sorted(groups)
    means = np.array([sums[[p for _, p in groups[n]]].mean(axis=0) for n in names]).reshape(-1, len(SUMS))
    sent = sums[:, SUMS.index("bytes_out")]
    members = [[ip for ip, p in sorted(groups[n], key=lambda g: (-sent[g[1]], g[0]))] for n in names]
    return Minute(minute, names, _features(means), means[:, _WEIGHT], members)


def workload_name(identities: IdentityTable, ip: str, minute: int) -> str | None:
    """Return namespace/kind/name of the workload with an address, else the address; none for outside ones."""
    item = identities.find(ip, minute)
    if item is not None and item.kind == "Pod":
        return f"{item.namespace}/{item.workload or 'Pod/' + item.name}"
    if item is not None and item.kind == "Service":
        return f"{item.namespace}/Service/{item.name}"
    return None if item is None and identities.role(ip, minute) == "external" else ip


def _features(means: F64) -> F64:
    column = {name: means[:, i] for i, name in enumerate(SUMS)}
    x = np.empty((len(means), COUNT))
    for place, name in enumerate(NAMES):
        if name in column:
            x[:, place] = np.log1p(column[name])
    flows = np.maximum(column["flows_out"], column["failed_out"])
    x[:, NAMES.index("failed_share")] = column["failed_out"] / (flows + _DAMPING)
    queries = np.maximum(column["dns_queries"], column["dns_failures"])
    x[:, NAMES.index("dns_failed_share")] = column["dns_failures"] / (queries + _DAMPING)
    ratio = (column["bytes_out"] + _BYTES) / (column["bytes_in"] + _BYTES)
    x[:, NAMES.index("bytes_ratio")] = np.log(ratio)
    return x


def natural(feature: int, value: float) -> float:
    """Return a feature's value in its unit."""
    if LOGS[feature]:
        return float(np.expm1(value))
    return float(np.exp(value)) if NAMES[feature] == "bytes_ratio" else float(value)
