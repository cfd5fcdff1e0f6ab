"""The key spaces: what features can be keyed by, and how much of each is kept.

Stage 1 spaces are scoped to a node; stage 2 spaces are summed over nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class KeySpace:
    """One family of keys.

    ``columns`` are the identity columns kept per key (16-byte addresses, numbers or texts);
    ``capacity`` and ``pairs`` bound the keys and, for distinct counts, the (key, element) pairs; ``reserved`` slots
    are kept for keys that have done several things.
    """

    name: str
    stage: Literal[1, 2]
    columns: tuple[str, ...]
    meaning: str
    capacity: int = 1 << 17
    pairs: int = 1 << 20
    reserved: int = 1 << 16


PAIR = KeySpace("pair", 1, ("src", "dst", "mac", "interface"), "one source towards one host")
SOURCE = KeySpace("source", 1, ("src",), "one source")
SWEEP = KeySpace(
    "sweep", 1, ("src", "proto", "port", "dst", "mac", "interface"), "one source on one service of many hosts"
)
DNS_ZONE = KeySpace("dns_zone", 1, ("client", "server", "zone"), "one client asking below one registered domain")
DNS_CLIENT = KeySpace("dns_client", 1, ("client",), "one client asking names")
VICTIM = KeySpace("victim", 2, ("dst",), "one host that connections are opened to", pairs=1 << 21)
WORKLOAD = KeySpace("workload", 2, ("workload",), "one workload's 60 s rows", capacity=1 << 15, reserved=1 << 14)

SPACES: dict[str, KeySpace] = {s.name: s for s in (PAIR, SOURCE, SWEEP, DNS_ZONE, DNS_CLIENT, VICTIM, WORKLOAD)}
