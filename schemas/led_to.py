"""Which pod an interface of a node led to, valid in time."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.inventory import InventoryObject
from schemas.timeline import Span, Timeline


class LedTo:
    """Pods by node and by the host's side of their interface, as far as their statements name one."""

    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, Timeline]] = {}

    def insert(self, span: Span) -> None:
        """Take in the time of one statement, if it is about a pod with a known interface."""
        item = span.item
        if item.kind == "Pod" and item.node and item.interface:
            self._nodes.setdefault(item.node, {}).setdefault(item.interface, Timeline()).insert(span)

    def remove(self, item: InventoryObject) -> None:
        """Let go of one statement."""
        named = self._nodes.get(item.node, {})
        timeline = named.get(item.interface)
        if timeline is None:
            return
        timeline.remove(item.valid_from, item.uid)
        if not len(timeline):
            del named[item.interface]
        if not named:
            del self._nodes[item.node]

    def at(self, node: str, interface: str, time: int) -> InventoryObject | None:
        """Return the pod behind an interface at a time (s since epoch), or none."""
        timeline = self._nodes.get(node, {}).get(interface)
        return timeline.at(time) if timeline is not None else None

    def of(self, node: str) -> Iterable[str]:
        """Return the interfaces of a node that are known."""
        return self._nodes.get(node, {}).keys()
