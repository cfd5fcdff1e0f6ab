"""What a node's own source says of its interfaces and sockets: one claim per state or change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from detectors.base import TickView
from detectors.claim_detector import Address, address_text
from detectors.link_frame import LinkFrame
from detectors.row_frame import TickRows, distinct
from detectors.statement import mac_text
from schemas.finding import Endpoint

# Different claims of one node and tick that are looked at; a node has some hundred interfaces.
PER_TICK = 1024


@dataclass(frozen=True)
class HostClaim:
    """One interface or socket. ``address`` is the pod's, where the interface is in a pod; (0, 0) on the node."""

    node: str
    tick: int
    address: Address
    mac: int
    owner: str
    interface: str

    @property
    def in_pod(self) -> bool:
        """Whether it is inside a pod's network namespace."""
        return self.address != (0, 0)

    def endpoint(self, view: TickView) -> Endpoint:
        """Return whose interface or socket it is."""
        mac, interface = mac_text(self.mac), self.interface or None
        if not self.in_pod:
            return Endpoint(ip="", mac=mac, interface=interface, node=self.node)
        return view.endpoint(address_text(self.address), self.tick, mac=mac, interface=interface)

    def subject(self) -> str:
        """Return what makes it the same claim again."""
        where = address_text(self.address) if self.in_pod else self.node
        return f"{self.owner}/{self.interface}/{where}@{self.node}"


def host_claims(link: LinkFrame, names: Sequence[str], claim: int) -> Iterator[tuple[TickRows, list[HostClaim], int]]:
    """Return the different claims of one kind of each node's tick, and how many were too many."""
    chosen = link.of(claim)
    if not chosen.any():
        return
    owner, owners = link.text
    interface, interfaces = link.interface
    columns = (*link.claimed, link.mac, owner, interface)
    for piece in link.ticks(chosen):
        first = distinct(columns, piece.rows)
        rows = zip(*(c[first[:PER_TICK]].tolist() for c in columns), strict=True)
        yield (
            piece,
            [
                HostClaim(names[piece.node], piece.tick, (high, low), mac, owners[who], interfaces[where])
                for high, low, mac, who, where in rows
            ],
            max(0, len(first) - PER_TICK),
        )


def matches(text: str, patterns: Sequence[str]) -> bool:
    """Tell whether a name is one of some shell patterns (``*``, ``?``, ``[...]``)."""
    return any(fnmatchcase(text, pattern) for pattern in patterns)
