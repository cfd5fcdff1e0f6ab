"""From what a source says is there now to statements about what was so from when to when."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from schemas.inventory import InventoryObject

SETTINGS = "settings"  # scope, and begin of uids, of ranges that the operator declares
_PART = "/"  # parts the uid of an object from what else is told because of it


def cut_of(time: float) -> int:
    """Return the cut that closes the second of a time, both s since epoch: the first to hold what begins then."""
    return math.floor(time) + 1


def part_uid(uid: str, part: str) -> str:
    """Return the uid of something told because of an object, such as the pod range of a node."""
    return f"{uid}{_PART}{part}"


def owner_uid(uid: str) -> str:
    """Return the uid of the object because of which something is told; its own for what stands alone."""
    return uid.partition(_PART)[0]


class Statements:
    """Everything that holds, and what of it has not been said yet. Times are s since epoch.

    Objects come in groups, one for each object of a source: a node with its ranges. Groups belong to a scope, which
    a source lists as a whole; what is missing from such a list has ended.

    Args:
        known: what was said before this process began, ended or not, in the order of the topic.
    """

    def __init__(self, known: Iterable[InventoryObject] = ()) -> None:
        self._live: dict[str, dict[str, InventoryObject]] = {}  # by group and uid
        self._groups: dict[str, set[str]] = {}  # by scope
        self._pending: dict[tuple[str, int], InventoryObject] = {}
        self.said = 0
        for uid, item in _latest(known).items():
            if item.valid_to is None and not _foreign(item):
                self._live.setdefault(owner_uid(uid), {})[uid] = item
        for group, items in self._live.items():
            self._groups.setdefault(_scope(group, items), set()).add(group)

    def __len__(self) -> int:
        return sum(len(items) for items in self._live.values())

    @property
    def waiting(self) -> int:
        """Statements that have not been taken yet."""
        return len(self._pending)

    def tell(self, scope: str, group: str, items: Sequence[InventoryObject], at: float) -> None:
        """Take in what is so now because of one object; no items: it is gone.

        ``valid_from`` of an item is when it came to be, as far as its source knows (0: it does not). What changes
        later changes when it is seen.
        """
        before = self._live.get(group, {})
        now = {item.uid: item for item in items}
        for uid in before.keys() - now.keys():
            self._end(before[uid], at)
        kept = {uid: self._told(before.get(uid), item, at) for uid, item in now.items()}
        if kept:
            self._live[group] = kept
            self._groups.setdefault(scope, set()).add(group)
        else:
            self._live.pop(group, None)
            self._groups.get(scope, set()).discard(group)

    def only(self, scope: str, groups: Iterable[str], at: float) -> None:
        """Take in that a whole scope was listed and consists of these groups: all others have ended."""
        for group in sorted(self._groups.get(scope, set()) - set(groups)):
            self.tell(scope, group, (), at)

    def _told(self, before: InventoryObject | None, item: InventoryObject, at: float) -> InventoryObject:
        seen = cut_of(at)
        begin = min(item.valid_from or seen, seen)  # a clock that is ahead must not hide what is there
        if before is not None:
            if before.model_copy(update={"valid_from": item.valid_from}) == item:
                return before
            begin = begin if begin > before.valid_from else max(seen, before.valid_from)
        now = item.model_copy(update={"valid_from": begin})
        self._say(now)
        return now

    def _end(self, item: InventoryObject, at: float) -> None:
        # The second in which it ended is still its own.
        self._say(item.model_copy(update={"valid_to": max(cut_of(at) + 1, item.valid_from)}))

    def _say(self, item: InventoryObject) -> None:
        self._pending[item.uid, item.valid_from] = item

    def restate(self) -> None:
        """Say again all that holds."""
        for items in self._live.values():
            for item in items.values():
                self._say(item)

    def take(self, most: int) -> list[InventoryObject]:
        """Return the next statements to be sent; they stay pending until ``sent``."""
        return [item for _, item in zip(range(most), self._pending.values(), strict=False)]

    def sent(self, items: Sequence[InventoryObject]) -> None:
        """Take in that statements are durable; one that changed meanwhile stays pending."""
        self.said += len(items)
        for item in items:
            if self._pending.get((item.uid, item.valid_from)) is item:
                del self._pending[item.uid, item.valid_from]


def _latest(known: Iterable[InventoryObject]) -> dict[str, InventoryObject]:
    latest: dict[str, InventoryObject] = {}
    for item in known:
        before = latest.get(item.uid)
        if before is None or item.valid_from >= before.valid_from:
            latest[item.uid] = item
    return latest


def _foreign(item: InventoryObject) -> bool:
    """Tell whether somebody else declared a range: no source lists it, so none can say that it ended."""
    return item.kind == "Range" and _PART not in item.uid and not item.uid.startswith(SETTINGS)


def _scope(group: str, items: dict[str, InventoryObject]) -> str:
    if group.startswith(SETTINGS):
        return SETTINGS
    return items[group].kind if group in items else "Range"
