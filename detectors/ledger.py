"""A bounded memory of entries by node and key, which a flood of new keys cannot wash out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import orjson

Key = tuple[int, ...]


@dataclass
class Entry:
    """What is kept of a key. Fields of subclasses are integers, texts, and lists of them."""

    since: int = 0  # tick of the first touch, s since epoch
    touched: int = 0  # tick of the last one


E = TypeVar("E", bound=Entry)


@dataclass
class _Shelves(Generic[E]):
    """One node's entries, the longest untouched first: those seen in one tick only, and the others."""

    new: OrderedDict[Key, E] = field(default_factory=OrderedDict)
    known: OrderedDict[Key, E] = field(default_factory=OrderedDict)


class Ledger(Generic[E]):
    """Entries by key, ``capacity`` per node, forgotten ``lifetime`` seconds after their last touch.

    A quarter of the room is for keys touched in one tick only, in order of arrival; a key touched in a later
    tick moves to the rest, where only age makes room. So random keys push out each other and nothing else.
    Each node has its own room: how ticks of several nodes are put together changes nothing.

    Attributes:
        shed: keys that were pushed out before their time, by node.
    """

    def __init__(self, entry: type[E], capacity: int, lifetime: int) -> None:
        self._entry, self._lifetime = entry, lifetime
        self._new_room = max(1, capacity // 4)
        self._known_room = max(1, capacity - self._new_room)
        self._nodes: dict[int, _Shelves[E]] = {}
        self.shed: dict[int, int] = {}

    def __len__(self) -> int:
        return sum(len(s.new) + len(s.known) for s in self._nodes.values())

    def get(self, node: int, key: Key, tick: int) -> E | None:
        """Return an entry that has not outlived its time, untouched."""
        shelves = self._nodes.get(node)
        if shelves is None:
            return None
        entry = shelves.known.get(key) or shelves.new.get(key)
        return entry if entry is not None and entry.touched > tick - self._lifetime else None

    def touch(self, node: int, key: Key, tick: int) -> E:
        """Return the entry of a key, made now if there is none, and note that it was touched in a tick."""
        shelves = self._nodes.setdefault(node, _Shelves())
        entry = self.get(node, key, tick)
        if entry is None:
            shelves.known.pop(key, None)
            shelves.new.pop(key, None)
            return self._admit(node, shelves, key, tick)
        if key in shelves.known:
            shelves.known.move_to_end(key)
        elif entry.touched < tick and self._room(shelves, tick):
            shelves.known[key] = shelves.new.pop(key)
        else:
            shelves.new.move_to_end(key)
        entry.touched = tick
        return entry

    def _admit(self, node: int, shelves: _Shelves[E], key: Key, tick: int) -> E:
        if len(shelves.new) >= self._new_room:
            _, oldest = shelves.new.popitem(last=False)
            if oldest.touched > tick - self._lifetime:
                self.shed[node] = self.shed.get(node, 0) + 1
        entry = shelves.new[key] = self._entry(since=tick, touched=tick)
        return entry

    def _room(self, shelves: _Shelves[E], tick: int) -> bool:
        if len(shelves.known) < self._known_room:
            return True
        oldest = next(iter(shelves.known))
        if shelves.known[oldest].touched > tick - self._lifetime:
            return False
        del shelves.known[oldest]
        return True

    def entries(self, node: int, tick: int) -> Iterator[tuple[Key, E]]:
        """Return a node's living entries."""
        shelves = self._nodes.get(node)
        for shelf in (shelves.new, shelves.known) if shelves is not None else ():
            for key, entry in shelf.items():
                if entry.touched > tick - self._lifetime:
                    yield key, entry

    def snapshot(self) -> npt.NDArray[np.uint8]:
        """Return everything as the bytes of a JSON text."""
        nodes = [
            [node, *([[list(key), asdict(entry)] for key, entry in shelf.items()] for shelf in (s.new, s.known))]
            for node, s in sorted(self._nodes.items())
        ]
        return np.frombuffer(orjson.dumps([sorted(self.shed.items()), nodes]), np.uint8)

    def restore(self, state: npt.NDArray[np.uint8]) -> None:
        """Take in what ``snapshot`` gave."""
        shed, nodes = orjson.loads(state.tobytes())
        self.shed = dict(shed)
        make: Callable[..., E] = self._entry
        self._nodes = {node: _Shelves(_shelf(new, make), _shelf(known, make)) for node, new, known in nodes}


def _shelf(rows: list[list[Any]], make: Callable[..., E]) -> OrderedDict[Key, E]:
    return OrderedDict((tuple(key), make(**fields)) for key, fields in rows)
