"""The key spaces: what features can be keyed by, and how much of each is kept.

Stage 1 spaces are scoped to a node; stage 2 spaces are summed over nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detectors.identity_keys import BYS, By


@dataclass(frozen=True)
class KeySpace:
    """One family of keys.

    ``columns`` are the identity columns kept per key (16-byte addresses, numbers or texts);
    ``capacity`` and ``pairs`` bound the keys and, for distinct counts, the (key, element) pairs; ``reserved`` slots
    are kept for keys that have done several things. ``grouped`` names what makes a key: what of the rows (or of
    their groups, where there are any) must be equal.
    """

    name: str
    stage: Literal[1, 2]
    columns: tuple[str, ...]
    meaning: str
    grouped: tuple[str, ...] = ()
    capacity: int = 1 << 17
    pairs: int = 1 << 20
    reserved: int = 1 << 16


PAIR = KeySpace("pair", 1, ("src", "dst", "mac", "interface"), "one source towards one host", ("source", "destination"))
SOURCE = KeySpace("source", 1, ("src",), "one source", ("source",))
SWEEP = KeySpace(
    "sweep",
    1,
    ("src", "proto", "port", "dst", "mac", "interface"),
    "one source on one service of many hosts",
    ("source", "service"),
)
DNS_ZONE = KeySpace(
    "dns_zone",
    1,
    ("client", "server", "zone"),
    "one client asking below one registered domain",
    ("client", "server", "zone"),
)
DNS_CLIENT = KeySpace("dns_client", 1, ("client",), "one client asking names", ("client",))
VICTIM = KeySpace("victim", 2, ("dst",), "one host that connections are opened to", ("destination",), pairs=1 << 21)
WORKLOAD = KeySpace(
    "workload", 2, ("workload",), "one workload's 60 s rows", ("workload", "node"), capacity=1 << 15, reserved=1 << 14
)

# Of what is counted for one address, what can also be counted for all addresses of one pod, workload and so on.
_BY_IDENTITY = {"source": "sources", "dns_client": "DNS clients", "victim": "hosts that connections are opened to"}


def by_identity(space: str, by: By) -> str:
    """Return the name of the space that counts by identity what another one counts by address."""
    return f"{space}_by_{by}"


IDENTITY_SPACES: dict[str, tuple[str, By]] = {
    by_identity(space, by): (space, by) for space in _BY_IDENTITY for by in BYS
}  # fmt: skip
SPACES: dict[str, KeySpace] = {s.name: s for s in (PAIR, SOURCE, SWEEP, DNS_ZONE, DNS_CLIENT, VICTIM, WORKLOAD)}
SPACES |= {
    name: KeySpace(
        name, SPACES[space].stage, ("who",), f"all {_BY_IDENTITY[space]} of one {by}", (by,), capacity=1 << 13,
        pairs=1 << 19, reserved=1 << 12,
    )
    for name, (space, by) in IDENTITY_SPACES.items()
}  # fmt: skip
