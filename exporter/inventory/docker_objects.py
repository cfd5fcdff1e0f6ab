"""Containers and networks of the Docker Engine API as inventory words; pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from exporter.inventory.statements import cut_of, part_uid
from schemas.inventory import InventoryObject

Document = Mapping[str, Any]

UIDS = "docker"  # uids of all that is told by an engine begin so
_LABELS, _LABEL_LENGTH = 64, 1024  # image labels may hold whole documents
_PROJECT, _SERVICE = "com.docker.compose.project", "com.docker.compose.service"
_STACK, _SWARM_SERVICE = "com.docker.stack.namespace", "com.docker.swarm.service.name"
# Drivers whose gateway is an address of this host.
_GATEWAY_HERE = ("bridge",)


def container_uid(identifier: str) -> str:
    """Return the uid of a container."""
    return f"{UIDS}:{identifier}"


def network_uid(host: str, identifier: str) -> str:
    """Return the uid of a network as one host has it: several hosts tell of the same overlay network."""
    return f"{UIDS}-net:{host[:40]}:{identifier[:64]}"


def read_container(document: Document, host: str, cluster: str) -> list[InventoryObject]:
    """Return a running container, as what ``/containers/{id}/json`` gives; none for one that does not run.

    Of the host's own network it has no address of its own; of another container's network that other is told.
    """
    state = document.get("State") or {}
    if not state.get("Running"):
        return []
    networks = (document.get("NetworkSettings") or {}).get("Networks") or {}
    ips = _addresses(a for n in networks.values() for a in (n.get("IPAddress"), n.get("GlobalIPv6Address")))
    mode = str((document.get("HostConfig") or {}).get("NetworkMode") or "")
    if not ips and mode != "host":
        return []
    labels: Mapping[str, str] = (document.get("Config") or {}).get("Labels") or {}
    return [InventoryObject.model_validate({
        "kind": "Pod", "uid": container_uid(document["Id"]), "cluster": cluster, "node": host,
        "namespace": labels.get(_PROJECT) or labels.get(_STACK) or "", "name": document["Name"].removeprefix("/"),
        "workload": _workload(labels), "ips": ips, "host_network": mode == "host", "labels": _kept(labels),
        "valid_from": _started(state),
    })]  # fmt: skip


def _workload(labels: Mapping[str, str]) -> str:
    for kind, label in (("Swarm", _SWARM_SERVICE), ("Compose", _SERVICE)):
        if labels.get(label):
            return f"{kind}/{labels[label]}"
    return ""


def _kept(labels: Mapping[str, str]) -> dict[str, str]:
    short = sorted((k, v) for k, v in labels.items() if len(k) <= _LABEL_LENGTH and len(v) <= _LABEL_LENGTH)
    return dict(short[:_LABELS])


def _started(state: Document) -> int:
    text = str(state.get("StartedAt") or "")
    return cut_of(datetime.fromisoformat(text).timestamp()) if text and not text.startswith("0001") else 0


def read_network(document: Document, host: str, cluster: str) -> list[InventoryObject]:
    """Return the ranges of a network; none for the host's own and for no network."""
    uid = network_uid(host, document["Id"])
    name = f"{document.get('Driver')} network {document.get('Name')}"[:253]
    subnets = _networks(document)
    return [InventoryObject(kind="Range", uid=part_uid(uid, subnet), cluster=cluster, node=host, name=name,
                            ips=(subnet,), role="internal") for subnet in subnets]  # fmt: skip


def _networks(document: Document) -> list[str]:
    configured = (document.get("IPAM") or {}).get("Config") or ()
    return [str(ipaddress.ip_network(c["Subnet"], strict=False)) for c in configured if c.get("Subnet")]


def read_host(info: Document, networks: Iterable[Document], cluster: str) -> InventoryObject:
    """Return the host with the addresses that its engine knows: gateways of its bridges, and that in its swarm."""
    gateways = [
        str(config["Gateway"]).partition("/")[0]
        for network in networks if network.get("Driver") in _GATEWAY_HERE
        for config in (network.get("IPAM") or {}).get("Config") or () if config.get("Gateway")
    ]  # fmt: skip
    ips = _addresses([*gateways, (info.get("Swarm") or {}).get("NodeAddr")])
    return InventoryObject(kind="Node", uid=f"{UIDS}-host:{info['ID']}"[:128], cluster=cluster, name=info["Name"],
                           node=info["Name"], ips=ips)  # fmt: skip


def _addresses(texts: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(ipaddress.ip_address(text)) for text in texts if text))
