"""Pods by what is told of them beside addresses: the interface that leads to one, and since when a workload has any."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

from schemas.inventory import InventoryObject
from schemas.timeline import Span, Timeline


class PodIndex:
    """Statements about pods, by node and host's side of their interface, valid in time, and by workload and node."""

    def __init__(self) -> None:
        self._behind: dict[str, dict[str, Timeline]] = {}
        self._begins: dict[tuple[str, str, str], list[int]] = {}  # s since epoch, ascending; node "": of all

    def insert(self, span: Span) -> None:
        """Take in the time of one statement, if it is about a pod."""
        item = span.item
        if item.kind == "Pod" and item.node and item.interface:
            self._behind.setdefault(item.node, {}).setdefault(item.interface, Timeline()).insert(span)
        for key in _workload_keys(item):
            insort(self._begins.setdefault(key, []), item.valid_from)

    def remove(self, item: InventoryObject) -> None:
        """Let go of one statement that was taken in."""
        named = self._behind.get(item.node, {}) if item.kind == "Pod" else {}
        if item.interface in named:
            named[item.interface].remove(item.valid_from, item.uid)
            if not len(named[item.interface]):
                del named[item.interface]
            if not named:
                del self._behind[item.node]
        for key in _workload_keys(item):
            begins = self._begins.get(key, [])
            place = bisect_left(begins, item.valid_from)
            if place < len(begins) and begins[place] == item.valid_from:
                del begins[place]
            if not begins:
                self._begins.pop(key, None)

    def behind(self, node: str, interface: str, at: int) -> InventoryObject | None:
        """Return the pod that an interface of a node led to at a time (s since epoch), or none that is told."""
        timeline = self._behind.get(node, {}).get(interface)
        return timeline.at(at) if timeline is not None else None

    def interfaces(self, node: str) -> Iterable[str]:
        """Return the interfaces of a node of which it is told whose they are or were."""
        return self._behind.get(node, {}).keys()

    def workload_since(self, namespace: str, workload: str, node: str = "") -> int | None:
        """Return when the first pod of a workload began that is remembered, on one node where it is given; or none."""
        begins = self._begins.get((namespace, workload, node))
        return begins[0] if begins else None


def _workload_keys(item: InventoryObject) -> tuple[tuple[str, str, str], ...]:
    if item.kind != "Pod" or not item.workload:
        return ()
    everywhere = (item.namespace, item.workload, "")
    return (everywhere, (item.namespace, item.workload, item.node)) if item.node else (everywhere,)
