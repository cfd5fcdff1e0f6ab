"""A second reading of NetworkPolicy, by enumeration over raw API documents; shares no code with the evaluator.

A world is plain data: `pods` (dicts with ns, name, labels, ips, ports, host, nodes), `namespaces` (name to labels) and
`policies` (API documents). One question at a time: may this pod, in this direction, exchange this one packet?
"""

from __future__ import annotations

import ipaddress
from typing import Any

World = dict[str, Any]


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    for key, value in (selector.get("matchLabels") or {}).items():
        if key not in labels or labels[key] != value:
            return False
    for term in selector.get("matchExpressions") or []:
        key, operator = term["key"], term["operator"]
        if operator == "Exists" and key not in labels:
            return False
        if operator == "DoesNotExist" and key in labels:
            return False
        if operator == "In" and labels.get(key) not in term["values"]:
            return False
        if operator == "NotIn" and labels.get(key) in term["values"]:
            return False
    return True


def inside(address: str, cidr: str) -> bool:
    network = ipaddress.ip_network(cidr)
    parsed = ipaddress.ip_address(address)
    return parsed.version == network.version and parsed in network


def owner(world: World, address: str) -> dict[str, Any] | None:
    for pod in world["pods"]:
        if not pod["host"] and address in pod["ips"]:
            return dict(pod)
    return None


def types_of(spec: dict[str, Any]) -> set[str]:
    declared = spec.get("policyTypes")
    if declared:
        return set(declared)
    return {"Ingress", "Egress"} if spec.get("egress") else {"Ingress"}


def peer_covers(world: World, home: str, peer: dict[str, Any], address: str, reading: str) -> bool:
    pod = owner(world, address)
    block = peer.get("ipBlock")
    if block is not None:
        if reading == "outside" and pod is not None:
            return False
        if not inside(address, block["cidr"]):
            return False
        return not any(inside(address, hole) for hole in block.get("except") or [])
    if pod is None:
        return False
    if peer.get("namespaceSelector") is None:
        if pod["ns"] != home:
            return False
    else:
        labels = dict(world["namespaces"].get(pod["ns"], {}))
        labels["kubernetes.io/metadata.name"] = pod["ns"]
        if not selects(peer["namespaceSelector"], labels):
            return False
    return peer.get("podSelector") is None or selects(peer["podSelector"], pod["labels"])


def port_covers(item: dict[str, Any], destination: dict[str, Any] | None, protocol: str, port: int) -> bool:
    if (item.get("protocol") or "TCP") != protocol:
        return False
    wanted = item.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return destination is not None and (wanted, protocol, port) in destination["ports"]
    return bool(wanted <= port <= item.get("endPort", wanted))


def side_allows(
    world: World, pod: dict[str, Any], direction: str, address: str, protocol: str, port: int, reading: str
) -> bool:
    if pod["host"]:
        return True
    if address in pod["ips"] or (owner(world, address) is None and address in pod["nodes"]):
        return True
    isolated = False
    for policy in world["policies"]:
        spec = policy["spec"]
        home = policy["metadata"]["namespace"]
        if home != pod["ns"] or not selects(spec.get("podSelector") or {}, pod["labels"]):
            continue
        if direction not in types_of(spec):
            continue
        isolated = True
        destination = pod if direction == "Ingress" else owner(world, address)
        for rule in spec.get(direction.lower()) or []:
            peers = rule.get("from" if direction == "Ingress" else "to") or []
            ports = rule.get("ports") or []
            if peers and not any(peer_covers(world, home, peer, address, reading) for peer in peers):
                continue
            if ports and not any(port_covers(item, destination, protocol, port) for item in ports):
                continue
            return True
    return not isolated


def allows(world: World, source: str, destination: str, protocol: str, port: int, reading: str) -> bool:
    sender, receiver = owner(world, source), owner(world, destination)
    if sender is not None and not side_allows(world, sender, "Egress", destination, protocol, port, reading):
        return False
    return receiver is None or side_allows(world, receiver, "Ingress", source, protocol, port, reading)
