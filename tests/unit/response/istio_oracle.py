"""The second reading of Istio's policies; see `dialect_oracle`."""

from __future__ import annotations

from typing import Any

from tests.unit.response.policy_oracle import World, inside, owner, selects

Question = tuple[str, str, int, str]  # address, protocol, port, reading


def istio(world: World, pod: dict[str, Any], direction: str, question: Question) -> bool:
    address, protocol, port, _ = question
    if direction != "Ingress" or protocol != "TCP" or not _in_mesh(pod):
        return True
    client = owner(world, address)
    known = client if client is not None and _in_mesh(client) else None
    if _strict(world, pod) and known is None:
        return False
    allowing, allowed = False, False
    for item in world["objects"]:
        if item["kind"] != "AuthorizationPolicy" or not _istio_selects(item, pod):
            continue
        hit = any(_istio_rule(rule, known, address, port) for rule in item["spec"].get("rules", []))
        if item["spec"].get("action", "ALLOW") == "DENY":
            if hit:
                return False
        else:
            allowing, allowed = True, allowed or hit
    return allowed or not allowing


def _in_mesh(pod: dict[str, Any]) -> bool:
    return bool(pod["labels"].get("security.istio.io/tlsMode") == "istio")


def _istio_selects(item: dict[str, Any], pod: dict[str, Any]) -> bool:
    if item["metadata"]["namespace"] not in ("istio-system", pod["ns"]):
        return False
    return selects({"matchLabels": item["spec"].get("selector", {}).get("matchLabels", {})}, pod["labels"])


def _strict(world: World, pod: dict[str, Any]) -> bool:
    best: dict[int, list[str]] = {}
    for item in world["objects"]:
        if item["kind"] != "PeerAuthentication" or not _istio_selects(item, pod):
            continue
        mode = item["spec"].get("mtls", {}).get("mode", "UNSET")
        if mode != "UNSET":
            narrow = 0 if item["spec"].get("selector", {}).get("matchLabels") else 1
            if narrow and item["metadata"]["namespace"] != pod["ns"]:
                narrow = 2
            best.setdefault(narrow, []).append(mode)
    return bool(best) and all(mode == "STRICT" for mode in best[min(best)])


def _istio_rule(rule: dict[str, Any], client: dict[str, Any] | None, address: str, port: int) -> bool:
    if rule.get("from") and not any(_istio_source(item["source"], client, address) for item in rule["from"]):
        return False
    if not rule.get("to"):
        return True
    return any(
        str(port) in item["operation"].get("ports", [str(port)])
        and str(port) not in item["operation"].get("notPorts", [])
        for item in rule["to"]
    )


def _istio_source(source: dict[str, Any], client: dict[str, Any] | None, address: str) -> bool:
    space = client["ns"] if client else None
    principal = f"cluster.local/ns/{space}/sa/" if client else None
    if "namespaces" in source and not (space and space in source["namespaces"]):
        return False
    if space and space in source.get("notNamespaces", []):
        return False
    if "principals" in source and not (principal and _principal(source["principals"], principal)):
        return False
    if "ipBlocks" in source and not any(inside(address, cidr) for cidr in source["ipBlocks"]):
        return False
    return not any(inside(address, cidr) for cidr in source.get("notIpBlocks", []))


def _principal(patterns: list[str], principal: str) -> bool:
    for pattern in patterns:
        if pattern == "*" or pattern == principal or (pattern[-1] == "*" and principal.startswith(pattern[:-1])):
            return True
    return False
