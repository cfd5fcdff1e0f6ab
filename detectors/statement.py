"""How findings are put into words and ends."""

from __future__ import annotations

from collections.abc import Sequence

from detectors.base import KeyView, TickView
from detectors.index import I64
from detectors.names import hash_one
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
    """Return the source of a key, and whether its packets entered by the interface of that very pod.

    A packet that enters by a pod's own interface cannot come from elsewhere, whatever address it bears.
    """
    ip, tick = keys.address(column, row), int(keys.ticks[row])
    item = view.identities.find(ip, tick)
    entered = int(keys.column("interface")[row])
    own = item is not None and item.interface != "" and hash_one(item.interface) == entered
    interface = item.interface if own and item is not None else None
    return view.endpoint(ip, tick, mac=mac_text(int(keys.column("mac")[row])), interface=interface), own


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
