"""What NAT makes of connections: the kernel's table of translated ones, joined to flows.

A pod's packets are seen before translation, where they enter the node. The table tells what became of them, so that a
flow to a Service names its endpoint, and it knows translated packets again where they leave, so that a flow is not
reported twice.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from detectors.index import KeyIndex
from exporter.chunks import I64
from exporter.gather import U64
from exporter.network_layer import Bool
from exporter.sources.ctnetlink import Connections
from exporter.tuples import Tuples, tuple_keys

_ENDPOINTS = ("src_high", "src_low", "dst_high", "dst_low", "src_port", "dst_port")


def _answered(reply: Tuples) -> Tuples:
    """Return the tuple of the initiator's packets as the responder gets them."""
    return Tuples(reply.dst_high, reply.dst_low, reply.src_high, reply.src_low, reply.dst_port, reply.src_port)


class Translations:
    """Translated connections by what they were before and by what they are afterwards.

    Args:
        capacity: connections held at once; of more, the new ones are not known.
        linger_seconds: s for which a connection is still known after the kernel forgot it: rows about it come later.
        seed: of hashes.

    Attributes:
        refused: connections that there was no room for, so far.
    """

    def __init__(self, capacity: int, linger_seconds: int, seed: int) -> None:
        self._linger, self._seed = linger_seconds, seed
        self._before, self._after = KeyIndex(capacity), KeyIndex(capacity)
        self._origin = np.zeros((capacity, 6), np.uint64)
        self._made = np.zeros((capacity, 6), np.uint64)
        self._after_key = np.zeros(capacity, np.uint64)
        self._slot_of_after = np.full(capacity, -1, np.int64)
        self._gone: Bool = np.zeros(capacity, np.bool_)
        self._leaving: deque[tuple[int, I64]] = deque()
        self.refused = 0

    def __len__(self) -> int:
        return len(self._before)

    def take(self, found: Connections, cut: int) -> None:
        """Take in connections, in the order in which they were told; those without translation are left out."""
        after = _answered(found.reply)
        changed = np.zeros(len(found), np.bool_)
        for name in _ENDPOINTS:
            changed |= getattr(found.origin, name) != getattr(after, name)
        rows = np.flatnonzero(changed)
        keys = tuple_keys(found.origin, found.proto, self._seed)[rows]
        # Of several words about one connection, the last is how it is now.
        _, last = np.unique(keys[::-1], return_index=True)
        last = np.sort(len(keys) - 1 - last)
        rows, keys = rows[last], keys[last]
        slots = self._before.lookup(keys)
        fresh = slots < 0
        slots[fresh] = self._before.insert(keys[fresh])
        self.refused += int((slots < 0).sum())
        rows, fresh, slots = rows[slots >= 0], fresh[slots >= 0], slots[slots >= 0]
        self._forget_after(slots[~fresh])
        for column, name in enumerate(_ENDPOINTS):
            self._origin[slots, column] = getattr(found.origin, name)[rows]
            self._made[slots, column] = getattr(after, name)[rows]
        self._note_after(slots, tuple_keys(after, found.proto, self._seed)[rows])
        gone = found.destroyed[rows]
        self._gone[slots] = gone
        if gone.any():
            self._leaving.append((cut + self._linger, slots[gone]))

    def _note_after(self, slots: I64, keys: U64) -> None:
        """Make slots known by what their connections are now; of equal ones the last."""
        _, last = np.unique(keys[::-1], return_index=True)
        last = len(keys) - 1 - last
        slots, keys = slots[last], keys[last]
        places = self._after.lookup(keys)
        fresh = places < 0
        places[fresh] = self._after.insert(keys[fresh])
        known = places >= 0
        self._slot_of_after[places[known]] = slots[known]
        self._after_key[slots] = keys

    def _forget_after(self, slots: I64) -> None:
        """Let go of what connections were translated to; another one may be so by now."""
        places = np.unique(self._after.lookup(self._after_key[slots]))
        places = places[places >= 0]
        self._after.remove(places[np.isin(self._slot_of_after[places], slots)])

    def start_again(self, cut: int) -> None:
        """Take all connections for gone: those that there still are will be told next."""
        live = self._before.live()
        self._gone[live] = True
        self._leaving.append((cut + self._linger, live))

    def close(self, cut: int) -> None:
        """Forget what has lingered long enough."""
        while self._leaving and self._leaving[0][0] <= cut:
            slots = self._leaving.popleft()[1]
            # Told again meanwhile, or forgotten already, or gone a second time.
            slots = np.unique(slots[self._gone[slots]])
            self._gone[slots] = False
            self._forget_after(slots)
            self._before.remove(slots)

    def origins_of(self, ends: Tuples, proto: I64) -> tuple[Bool, U64, U64]:
        """Tell which packets are translated ones, and whose they were: bool (n,) and halves of the address."""
        places = self._after.lookup(tuple_keys(ends, proto, self._seed))
        known = places >= 0
        slots = self._slot_of_after[places[known]]
        high, low = np.zeros(len(known), np.uint64), np.zeros(len(known), np.uint64)
        high[known], low[known] = self._origin[slots, 0], self._origin[slots, 1]
        return known, high, low

    def find(self, ends: Tuples, proto: I64) -> tuple[I64, Bool]:
        """Return the slot of each flow's connection, -1 where it is not translated, and which were translated already.

        The node's own connections are: nothing is seen of them before.
        """
        keys = tuple_keys(ends, proto, self._seed)
        slots = self._before.lookup(keys)
        late = slots < 0
        places = self._after.lookup(keys[late])
        slots[late] = np.where(places >= 0, self._slot_of_after[places], -1)
        return slots, late & (slots >= 0)

    def ends(self, slots: I64) -> tuple[Tuples, Tuples]:
        """Return the ends of connections before and after translation; ports as uint64."""
        return Tuples(*self._origin[slots].T), Tuples(*self._made[slots].T)
