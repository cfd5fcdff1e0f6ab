"""Which Service a host name of HTTP or TLS means inside a cluster."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

_MESH = "outbound_"  # of server names by which meshes of several clusters ask a gateway for a Service


class ServiceName(NamedTuple):
    """A Service's name; ``namespace`` is empty where the client's own is meant, ``sure`` where nothing else can be."""

    namespace: str
    name: str
    sure: bool


@lru_cache(maxsize=65536)
def service_name(host: str) -> ServiceName | None:
    """Return the Service that a host may mean, or none.

    ``svc.ns.svc`` with or without the cluster's domain is sure, also below it (a StatefulSet's pods); ``svc.ns`` may
    also be a public name; a single label is a Service of the client's namespace, since only a search path completes it.
    """
    labels = _without_port(host).rstrip(".").lower().split(".")
    if not all(labels) or labels[-1].isdigit() or labels[0].startswith(_MESH):
        return None
    if len(labels) == 1:
        return ServiceName("", labels[0], True)
    if "svc" in labels[2:]:
        place = labels.index("svc", 2)
        return ServiceName(labels[place - 1], labels[place - 2], True)
    return ServiceName(labels[1], labels[0], False) if len(labels) == 2 else None


def _without_port(host: str) -> str:
    return "" if host.startswith("[") else host.partition(":")[0]
