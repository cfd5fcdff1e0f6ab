"""Which name was asked for when an address was told; bounded per node."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.dns_frame import DnsFrame
from detectors.index import I64, KeyIndex, positions
from detectors.mixing import U64
from detectors.names import ZONE_BYTES, hash_strings

_ADDRESSES = (1, 28)
_ENTRY = np.dtype([("key", np.uint64), ("tick", np.int64), ("name", f"S{ZONE_BYTES}")])


class AddressNames:
    """The names of one node's answers by key, for ``lifetime`` seconds after the last one.

    Attributes:
        shed: entries that were pushed out before their time.
    """

    def __init__(self, capacity: int, lifetime: int) -> None:
        self._capacity, self._lifetime = capacity, lifetime
        self._index = KeyIndex(capacity)
        self._rows = np.zeros(0, _ENTRY)
        self.shed = 0

    def add(self, tick: int, keys: U64, names: npt.NDArray[Any]) -> None:
        """Take in a tick's answers: their keys, and the name asked for as bytes; of equal keys the last."""
        last = len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]
        last = np.sort(last)[-self._capacity :]
        keys, names = keys[last], names[last]
        new = self._index.lookup(keys) < 0
        self._make_room(int(new.sum()), tick)
        slots = self._index.lookup(keys)  # some may have been pushed out
        absent = slots < 0
        slots[absent] = self._index.insert(keys[absent])
        self._grow(int(slots.max(initial=-1)) + 1)
        kept = slots >= 0
        self.shed += int((~kept).sum())
        self._rows["key"][slots[kept]], self._rows["tick"][slots[kept]] = keys[kept], tick
        self._rows["name"][slots[kept]] = names[kept]

    def find(self, tick: int, keys: U64) -> list[str]:
        """Return the name of each key; empty where none was told lately."""
        slots = self._index.lookup(keys)
        names = np.zeros(len(keys), f"S{ZONE_BYTES}")
        known = positions(slots >= 0)
        known = known[self._rows["tick"][slots[known]] > tick - self._lifetime]
        names[known] = self._rows["name"][slots[known]]
        return [name.decode("ascii", "replace") for name in names.tolist()]

    def _make_room(self, more: int, tick: int) -> None:
        over = len(self._index) + more - self._capacity
        if over <= 0:
            return
        live = self._index.live()
        order = live[np.lexsort((self._rows["key"][live], self._rows["tick"][live]))]
        # A quarter at once, so that a crowded table is not sorted every second.
        dropped = order[: max(over, self._capacity // 4)]
        self.shed += int((self._rows["tick"][dropped] > tick - self._lifetime).sum())
        self._index.remove(dropped)

    def _grow(self, needed: int) -> None:
        if needed > len(self._rows):
            size = min(self._capacity, max(64, 2 * needed))
            self._rows = np.concatenate([self._rows, np.zeros(size - len(self._rows), _ENTRY)])

    def snapshot(self) -> npt.NDArray[np.uint8]:
        """Return the entries as bytes."""
        live = self._rows[self._index.live()]
        return np.frombuffer(live[np.argsort(live["key"])].tobytes(), np.uint8)

    def restore(self, state: npt.NDArray[np.uint8]) -> None:
        """Take in what ``snapshot`` gave."""
        rows = np.frombuffer(state.tobytes(), _ENTRY)
        self._grow(len(rows))
        self._rows[self._index.insert(rows["key"])] = rows


def told_addresses(dns: DnsFrame) -> tuple[I64, U64]:
    """Return (rows, hash of the address in text) of the answers that tell an address."""
    rows = dns.subjects
    rows = rows[np.isin(dns.columns.values("record_type")[rows], _ADDRESSES)]
    told = dns.columns.word_hashes("record_data", rows) if len(rows) else np.zeros(0, np.uint64)
    return rows, told


def address_keys(addresses: list[str]) -> U64:
    """Return the hashes of addresses in text."""
    return hash_strings(pa.array(addresses, pa.string()))
