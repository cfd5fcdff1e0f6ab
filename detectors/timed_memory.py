"""Answers about names that hold for a while, each worked out once while the inventory stands."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from schemas.identity import IdentityTable

T = TypeVar("T")
_MOST = 1 << 15  # answers kept


class TimedMemory(Generic[T]):
    """A memory of pure functions of the inventory and a time; no state: without it everything comes out the same."""

    def __init__(self) -> None:
        self._told = -1
        self._known: dict[Hashable, tuple[int, int, T]] = {}

    def get(self, identities: IdentityTable, key: Hashable, tick: int, make: Callable[[], tuple[T, int, int]]) -> T:
        """Return the value of a key at a tick; ``make`` gives it and from when to before when it holds."""
        if self._told != identities.told or len(self._known) >= _MOST:
            self._told, self._known = identities.told, {}
        known = self._known.get(key)
        if known is None or not known[0] <= tick < known[1]:
            value, begin, end = make()
            known = self._known[key] = begin, end, value
        return known[2]
