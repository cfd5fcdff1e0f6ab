"""What was stated of objects that have no address of their own, valid in time and bounded."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator

from schemas.inventory import InventoryObject

# Of one object. EndpointSlices are stated anew at each step of a rollout; who asks for a time before the
# oldest that is kept is told nothing.
_KEPT = 32
_OBJECTS = 1 << 17  # remembered; what was stated longest ago is forgotten first


class Statements:
    """Objects by group and uid, with the last 32 statements about each.

    A statement holds until its ``valid_to``, or until a later one about the same uid begins; one with an equal
    ``valid_from`` replaces the one told before.
    """

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], dict[str, list[InventoryObject]]] = {}
        self._order: dict[tuple[tuple[str, str], str], None] = {}

    def __len__(self) -> int:
        return len(self._order)

    def add(self, group: tuple[str, str], item: InventoryObject) -> None:
        """Take in one statement."""
        of_uid = self._groups.setdefault(group, {}).setdefault(item.uid, [])
        of_uid[:] = [known for known in of_uid if known.valid_from != item.valid_from]
        insort(of_uid, item, key=_begin)
        del of_uid[:-_KEPT]
        self._order.pop((group, item.uid), None)
        self._order[group, item.uid] = None
        if len(self._order) > _OBJECTS:
            self._forget(*next(iter(self._order)))

    def _forget(self, group: tuple[str, str], uid: str) -> None:
        del self._order[group, uid]
        del self._groups[group][uid]
        if not self._groups[group]:
            del self._groups[group]

    def has(self, group: tuple[str, str]) -> bool:
        """Tell whether anything was stated of a group."""
        return group in self._groups

    def valid(self, group: tuple[str, str], at: int) -> Iterator[InventoryObject]:
        """Return what holds at a time (s since epoch)."""
        for told in self._groups.get(group, {}).values():
            number = bisect_right(told, at, key=_begin)
            if number and _holds(told[number - 1], at):
                yield told[number - 1]

    def since(self, group: tuple[str, str], since: int, at: int) -> Iterator[InventoryObject]:
        """Return what held at any time after ``since`` and until ``at``."""
        for told in self._groups.get(group, {}).values():
            for number in range(bisect_right(told, at, key=_begin)):
                later = told[number + 1].valid_from if number + 1 < len(told) else at + 1
                if later > since and _holds(told[number], since):
                    yield told[number]

    def changed(self, group: tuple[str, str], at: int) -> int:
        """Return when something of a group last began or ended, s since epoch; 0 where nothing did."""
        moments = [0]
        for told in self._groups.get(group, {}).values():
            number = bisect_right(told, at, key=_begin)
            if number:
                ended = told[number - 1].valid_to
                moments += [told[number - 1].valid_from, ended if ended is not None and ended <= at else 0]
        return max(moments)


def _begin(item: InventoryObject) -> int:
    return item.valid_from


def _holds(item: InventoryObject, at: int) -> bool:
    return item.valid_to is None or at < item.valid_to
