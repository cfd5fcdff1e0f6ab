"""Lists of an API server, taken apart as far as they are news: an object of a known version is not read again.

A large cluster's list is megabytes of JSON of which hardly anything has changed since the last one, and to build
objects from all of it would be most of the time that a step takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")
Raw = msgspec.Raw


class _ListMeta(msgspec.Struct):
    onward: str | None = msgspec.field(default=None, name="continue")


class Page(msgspec.Struct):
    """One page of a list: its objects as they were sent, and where the next page begins."""

    items: list[Raw] | None = None
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)


class _Meta(msgspec.Struct):
    uid: str = ""
    version: str = msgspec.field(default="", name="resourceVersion")


class _Head(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)


_PAGE = msgspec.json.Decoder(Page)
_HEAD = msgspec.json.Decoder(_Head)
_WHOLE = msgspec.json.Decoder(dict[str, Any])


def read_page(body: bytes) -> Page:
    """A page of a list. Raises ValueError for what is none."""
    try:
        return _PAGE.decode(body)
    except msgspec.DecodeError as error:
        message = f"no list of objects: {error}"
        raise ValueError(message) from None


def read_whole(raw: Raw) -> dict[str, Any]:
    """All of an object. Raises ValueError for what is none."""
    try:
        return _WHOLE.decode(raw)
    except msgspec.DecodeError as error:
        message = f"no object: {error}"
        raise ValueError(message) from None


def _head(raw: Raw) -> _Meta:
    try:
        return _HEAD.decode(raw).metadata
    except msgspec.DecodeError as error:
        message = f"no object: {error}"
        raise ValueError(message) from None


class _Status(msgspec.Struct):
    message: str = ""


def said_by(body: bytes) -> str:
    """What a server says about its refusal, as far as it does."""
    try:
        return msgspec.json.decode(body, type=_Status).message
    except msgspec.DecodeError:
        return ""


class Readings(Generic[T]):
    """What was read of the objects of the last list: for the same uid and resourceVersion the same value."""

    def __init__(self, read: Callable[[Mapping[str, Any]], T]) -> None:
        self._read = read
        self._known: dict[str, tuple[str, T]] = {}
        self._last: tuple[T, ...] = ()

    def read(self, listed: Sequence[Raw]) -> tuple[T, ...]:
        """What is in each object, in their order; the same tuple while nothing changed. Raises what the reader does."""
        kept: dict[str, tuple[str, T]] = {}
        found: list[T] = []
        for raw in listed:
            head = _head(raw)
            made = self._known.get(head.uid)
            if made is None or made[0] != head.version:
                made = (head.version, self._read(read_whole(raw)))
            found.append(made[1])
            if head.uid and head.version:
                kept[head.uid] = made
        self._known = kept
        if len(found) != len(self._last) or any(one is not other for one, other in zip(found, self._last, strict=True)):
            self._last = tuple(found)
        return self._last
