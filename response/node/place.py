"""Where on a node the packets of a pod pass: the interface at its end of the pod's own link."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from response.node.facts import parsed
from response.node.kernel_tools import Run, ToolError, run_tool

_INTERFACE = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.:-]{0,14}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def interface_of(address: str, run: Run = run_tool) -> str:
    """The interface behind which an address of a pod is: routed to, or a port of the bridge that is routed to.

    Raises:
        ToolError: it is not on this node (not_here), or the bridge has not learned where it is (not_learned).
        ValueError: not an address.
    """
    text = str(ip_address(address))
    routes = parsed(run, "ip", "-j", "route", "get", text)
    device = str(routes[0].get("dev", "")) if routes else ""
    if not _INTERFACE.fullmatch(device) or "gateway" in routes[0] or routes[0].get("type", "unicast") != "unicast":
        message = f"{text} is no neighbour of this node: the pod runs elsewhere, or has ended"
        raise ToolError(message, "not_here")
    links = parsed(run, "ip", "-j", "-details", "link", "show", "dev", device)
    if not links or (links[0].get("linkinfo") or {}).get("info_kind") != "bridge":
        return device
    return _port(text, device, run)


def _port(address: str, bridge: str, run: Run) -> str:
    neighbours = parsed(run, "ip", "-j", "neighbour", "show", address, "dev", bridge)
    mac = next((str(item["lladdr"]) for item in neighbours if _MAC.fullmatch(str(item.get("lladdr", "")))), None)
    learned = parsed(run, "bridge", "-j", "fdb", "show", "br", bridge) if mac is not None else []
    port = next((str(item.get("ifname", "")) for item in learned if _is_of(item, mac)), "")
    if not _INTERFACE.fullmatch(port) or port == bridge:
        message = f"bridge {bridge} has not learned behind which port {address} is: it was silent lately"
        raise ToolError(message, "not_learned")
    return port


def _is_of(item: Mapping[str, Any], mac: str | None) -> bool:
    return str(item.get("mac", "")).lower() == mac
