"""How findings are put into words and ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectors.base import KeyView, TickView
from detectors.index import I64
from schemas.finding import MAX_ENDPOINTS, Endpoint

PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMP", 132: "SCTP"}


def mac_text(value: int) -> str | None:
    """Return a MAC address in text; none for zero, which stands for "not known"."""
    return ":".join(f"{byte:02x}" for byte in int(value).to_bytes(6)) if value else None


def mac_number(text: str) -> int:
    """Return a MAC address given in text as a number."""
    return int(text.replace(":", ""), 16)


def count(value: float) -> str:
    """Return a count with thousands separated."""
    return f"{value:,.0f}"


def attacker(view: TickView, keys: KeyView, row: int, column: str = "src") -> tuple[Endpoint, bool]:
    """Return the source of a key, and whether the interface by which its packets entered proves it."""
    ip, tick, node = keys.address(column, row), int(keys.ticks[row]), keys.node(row)
    mac = mac_text(int(keys.column("mac")[row]))
    pair, sweep = keys.table.space.name == "pair", keys.table.space.name == "sweep"
    dst = bytes(keys.column("dst")[row]) if pair else None
    service = int(keys.column("proto")[row]) << 16 | int(keys.column("port")[row]) if sweep else None
    seen = view.entered_by(int(keys.node_numbers[row]), bytes(keys.column(column)[row]), dst, service)
    if len(seen) > 1:
        # Two speak under one address, and nothing tells which of them did what was counted.
        return view.endpoint(ip, tick, mac=mac), False
    # What the key remembers is of its first packets, which may have been another's.
    interface = seen[0] if seen else view.interface_of(node, int(keys.column("interface")[row]))
    return machine(view, node, tick, ip, mac=mac, interface=interface, forged=True)


def machine(view: TickView, node: str, tick: int, ip: str, *, interface: str, forged: bool = False,
            **more: Any) -> tuple[Endpoint, bool]:  # fmt: skip
    """Return who sent packets that entered a node by an interface, and whether the interface proves it.

    Behind a pod's interface is that pod, whatever address it gave. Elsewhere the address is all that there is.

    Args:
        view: of the tick.
        node: name.
        tick: s since epoch.
        ip: address that was given; empty: none.
        interface: name; empty: not known.
        forged: ``ip`` was the source address of its packets.
        more: of the endpoint.
    """
    pod = view.sender(node, interface, tick, **more) if interface else None
    if pod is None:
        given = view.endpoint(ip, tick, interface=interface or None, **more) if ip else None
        return given or Endpoint(ip="", interface=interface or None, **more), False
    if ip == pod.ip or not ip:
        return pod, True
    claimed = view.endpoint(ip, tick, interface=interface, **more)
    if claimed.pod is not None and (claimed.namespace, claimed.pod) == (pod.namespace, pod.pod):
        return claimed, True
    # Nodes name one address of a pod: which others are its own only an inventory knows.
    if claimed.identity == "unknown" and (":" in ip) != (":" in pod.ip):
        return claimed, True
    return pod.model_copy(update={"forged": (ip,)}) if forged else pod, True


def victims(view: TickView, keys: KeyView, rows: Sequence[int], column: str = "dst") -> tuple[Endpoint, ...]:
    """Return the addresses of keys, at most ``MAX_ENDPOINTS``, in the given order."""
    return tuple(view.endpoint(keys.address(column, r), int(keys.ticks[r])) for r in rows[:MAX_ENDPOINTS])


def by_source(keys: KeyView, rows: I64, weight: I64, column: str = "src") -> list[list[int]]:
    """Group rows by (node, source), ordered by node and address; within a group the heaviest first."""
    groups: dict[tuple[str, bytes], list[int]] = {}
    addresses = keys.column(column)
    for row in rows.tolist():
        groups.setdefault((keys.node(row), bytes(addresses[row])), []).append(row)
    return [sorted(groups[k], key=lambda r: (-int(weight[r]), bytes(keys.table.keys(keys.slots[r : r + 1]))))
            for k in sorted(groups)]  # fmt: skip
