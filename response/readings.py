"""Objects of an API server read once for each version: what did not change since the last list is not read again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Readings(Generic[T]):
    """What was read of the objects of the last list: for the same uid and resourceVersion the same value."""

    def __init__(self, read: Callable[[Mapping[str, Any]], T]) -> None:
        self._read = read
        self._known: dict[str, tuple[str, T]] = {}

    def read(self, documents: Iterable[Mapping[str, Any]]) -> tuple[T, ...]:
        """What is in each document, in their order. Raises what the reader raises."""
        kept: dict[str, tuple[str, T]] = {}
        found: list[T] = []
        for item in documents:
            metadata = item["metadata"]
            uid, version = str(metadata.get("uid") or ""), str(metadata.get("resourceVersion") or "")
            known = self._known.get(uid)
            made = known if known is not None and known[0] == version else (version, self._read(item))
            found.append(made[1])
            if uid and version:
                kept[uid] = made
        self._known = kept
        return tuple(found)
