"""Whose interfaces the nodes say theirs are: the pod's address by node and interface.

A packet that enters by the host's side of a pod's interface was sent by that pod, whatever address it bears.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from detectors.claim_detector import Address, address_text
from detectors.round_frames import RoundFrames
from schemas.events import LinkClaim

_MOST = 1 << 15  # interfaces remembered; those of which nothing was heard for longest go first
_NAMELESS: Mapping[str, str] = {}


class PodInterfaces:
    """What nodes' own sources say of their interfaces; the last word holds until the interface has gone."""

    state_version: ClassVar[int] = 1

    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, str]] = {}  # addresses by node and interface
        self._order: OrderedDict[tuple[str, str], None] = OrderedDict()

    def observe(self, frames: RoundFrames) -> None:
        """Take in the rows of a round."""
        link = frames.link
        if link is None:
            return
        chosen = link.of(LinkClaim.POD_INTERFACE, LinkClaim.INTERFACE_REMOVED)
        if not chosen.any():
            return
        number, names = link.interface
        columns = (link.claim, number, *link.claimed)
        for piece in link.ticks(chosen):
            node, rows = frames.names[piece.node], piece.rows
            for what, where, upper, lower in zip(*(column[rows].tolist() for column in columns), strict=True):
                self._take(node, names[where], (upper, lower), gone=what == LinkClaim.INTERFACE_REMOVED)

    def _take(self, node: str, interface: str, address: Address, *, gone: bool) -> None:
        self._forget(node, interface)
        if gone or not interface or address == (0, 0):
            return
        self._nodes.setdefault(node, {})[interface] = address_text(address)
        self._order[node, interface] = None
        if len(self._order) > _MOST:
            self._forget(*next(iter(self._order)))

    def _forget(self, node: str, interface: str) -> None:
        self._order.pop((node, interface), None)
        named = self._nodes.get(node, {})
        named.pop(interface, None)
        if node in self._nodes and not named:
            del self._nodes[node]

    def address(self, node: str, interface: str) -> str:
        """Return the address of the pod behind an interface, in text; empty where nobody said so."""
        return self._nodes.get(node, _NAMELESS).get(interface, "")

    def of(self, node: str) -> Iterable[str]:
        """Return the interfaces of a node that lead to pods."""
        return self._nodes.get(node, _NAMELESS).keys()

    def snapshot(self) -> dict[str, Any]:
        """Return what is known, in order of forgetting, as JSON values."""
        return {"interfaces": [[*key, self._nodes[key[0]][key[1]]] for key in self._order]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take in what ``snapshot`` gave."""
        self._nodes, self._order = {}, OrderedDict()
        for node, interface, address in state["interfaces"]:
            self._nodes.setdefault(str(node), {})[str(interface)] = str(address)
            self._order[str(node), str(interface)] = None
