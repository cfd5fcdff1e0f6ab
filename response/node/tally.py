"""What the tables of a node dropped, by entry: counters of the kernel, kept through changes of the tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from response.node.entries import CutKey, Key
from response.node.nft import Look
from schemas.node_report import NodeEntry


@dataclass(slots=True)
class _Count:
    """Totals, the counter as last seen in each table, and the last look at which it had grown."""

    response_id: str
    packets: int = 0
    bytes: int = 0
    seen: tuple[tuple[int, int], ...] = ()
    last_cut: int = 0
    expires_in: int = 0


class Tally:
    """Counts grow by what the kernel's counters grew since the last look; one that fell was made anew."""

    def __init__(self) -> None:
        self._counts: dict[Key, _Count] = {}
        self.packets = 0  # dropped since this process began to look, also by entries that are gone
        self.bytes = 0

    def count(self, tables: Iterable[Look], now: float) -> None:
        """Take in one look at all tables; entries that are in none of them are forgotten."""
        looks = tuple(tables)
        keys = dict.fromkeys(key for look in looks for key in look.entries)
        self._counts = {key: self._grown(key, looks, int(now)) for key in keys}

    def entries(self) -> tuple[NodeEntry, ...]:
        """What is in the tables, in the order of their names."""
        found = (
            NodeEntry(
                kind=_kind(key), what=key.text(), response_id=count.response_id, packets=count.packets,
                bytes=count.bytes, last_cut=count.last_cut, expires_in=count.expires_in,
            )
            for key, count in self._counts.items()
        )  # fmt: skip
        return tuple(sorted(found, key=lambda entry: (entry.kind, entry.what)))

    def _grown(self, key: Key, looks: tuple[Look, ...], now: int) -> _Count:
        there = [look.entries.get(key) for look in looks]
        present = [item for item in there if item is not None]
        before = self._counts.get(key) or _Count(present[0].response_id)
        seen = tuple((item.packets, item.bytes) if item is not None else (0, 0) for item in there)
        past = before.seen if len(before.seen) == len(seen) else ((0, 0),) * len(seen)
        packets = sum(_growth(old[0], new[0]) for old, new in zip(past, seen, strict=True))
        size = sum(_growth(old[1], new[1]) for old, new in zip(past, seen, strict=True))
        self.packets += packets
        self.bytes += size
        return _Count(
            present[0].response_id, before.packets + packets, before.bytes + size, seen,
            now if packets else before.last_cut, min(item.expires_in for item in present),
        )  # fmt: skip


def _growth(old: int, new: int) -> int:
    return new - old if new >= old else new


def _kind(key: Key) -> Literal["cut", "limit"]:
    return "cut" if isinstance(key, CutKey) else "limit"
