"""Whom each workload talks to, and how surprising it is that it talks to somebody else.

The surprise of a new peer is what information theory gives an event of probability p, -log2 p bits, where p is the
share of new ones among the conversations that the workload told of lately: an exponentially weighted mean, so that a
workload that always meets new peers surprises nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.kernels import peers as kernel
from detectors.models.store import Quantity, WorkloadStore

F64 = npt.NDArray[np.float64]

PEERS = 96  # remembered per workload; who has more always meets new ones
RECENT = 16  # new peers within the window; more say no more
_PLACES = 32  # ports and namespaces remembered
_FADING = 0.05  # weight of the newest conversation in the mean, half forgotten after 14
_NEW_PLACE = 2.0  # bits for a port or a namespace that no peer had before, each: a quarter as likely
_MOST = 10.0  # bits of one peer: nothing is known to be rarer than one in a thousand
STALE = 7200  # s; conversations are told of every hour

QUANTITIES = (
    Quantity("peers", (PEERS,), "u8"), Quantity("told", (PEERS,), "i8"),
    Quantity("ports", (_PLACES,), "u8"), Quantity("namespaces", (_PLACES,), "u8"),
    Quantity("rate", (), "f8", 1.0), Quantity("tells", (), "i8"), Quantity("since", (), "i8", -1),
    Quantity("recent", (RECENT,), "u8"), Quantity("recent_at", (RECENT,), "i8"),
    Quantity("recent_bits", (RECENT,), "f8"), Quantity("recent_port", (RECENT,), "u8"),
    Quantity("recent_namespace", (RECENT,), "u8"),
    Quantity("fired", (), "i8", -1),
    Quantity("doubted", (RECENT,), "u8"), Quantity("strikes", (RECENT,), "i8"),
)  # fmt: skip
FEATURES = ("new_peers", "new_ports", "new_namespaces", "rate", "surprise")


@dataclass(frozen=True)
class Peer:
    """One conversation: what stands for the peer, for its port, and for its namespace (0: not known)."""

    key: int
    port: int
    namespace: int


@dataclass(frozen=True)
class Surprise:
    """What the new peers of a workload's window come to."""

    bits: float
    new_peers: int
    new_ports: int
    new_namespaces: int
    rate: float
    watched: int  # s
    tells: int

    def sample(self, limit: float) -> F64:
        """Return the numbers that the trees judge, 0 to 1."""
        counts = (self.new_peers / RECENT, self.new_ports / RECENT, self.new_namespaces / RECENT)
        numbers: F64 = np.array([*counts, self.rate, self.bits / (2 * limit)])
        return numbers.clip(0, 1)


class PeerMemory:
    """Peers by workload."""

    def __init__(self, workloads: int, window: int, patience: int) -> None:
        self.store = WorkloadStore(QUANTITIES, workloads, stale=STALE)
        self._window, self._patience = window, patience

    def admit(self, name: str, tick: int) -> int:
        """Return a workload's row, -1 where there is no room."""
        row = self.store.row(name, tick)
        if row >= 0:
            self.store["last"][row] = tick
            if self.store["since"][row] < 0:
                self.store["since"][row] = tick
        return row

    def settle(self, row: int, tick: int, *, doubtful: bool) -> None:
        """Let new peers whose window is over become known, or doubted where they took part in a finding."""
        store = self.store
        if not store["recent"][row].any():
            return
        for place in np.flatnonzero(store["recent"][row]).tolist():
            began = int(store["recent_at"][row, place])
            if began > tick - self._window:
                continue
            peer = Peer(*(int(store[name][row, place]) for name in ("recent", "recent_port", "recent_namespace")))
            store["recent"][row, place] = 0
            if (not doubtful and store["fired"][row] < began) or self._strike(row, peer.key):
                self.learn(row, peer, began)

    def _strike(self, row: int, key: int) -> bool:
        """Count a doubted peer once more; tells whether it has been there long enough to be a habit."""
        doubted, strikes = self.store["doubted"][row], self.store["strikes"][row]
        place = _place(doubted, key)
        if place < 0:
            place = int(np.argmin(strikes))
            doubted[place], strikes[place] = key, 0
        strikes[place] += 1
        if strikes[place] < self._patience:
            return False
        doubted[place], strikes[place] = 0, 0
        return True

    def known(self, row: int, peer: Peer, tick: int) -> bool:
        """Tell whether a peer is one of the workload's; it is then told again."""
        place = _place(self.store["peers"][row], peer.key)
        if place < 0:
            return False
        self.store["told"][row, place] = tick
        self._count(row, 0.0)
        return True

    def learn(self, row: int, peer: Peer, tick: int) -> None:
        """Take a peer in; without room the one not told of for longest goes."""
        met = np.array((peer.key, peer.port, peer.namespace), np.uint64)
        kernel.learn(met, np.int64(tick), *(self.store[name][row] for name in ("peers", "told", "ports", "namespaces")))
        self._count(row, 1.0)

    def _count(self, row: int, new: float) -> None:
        self.store["rate"][row] += _FADING * (new - self.store["rate"][row])
        self.store["tells"][row] += 1

    def meet(self, row: int, peer: Peer, tick: int) -> bool:
        """Note a new peer with its surprise, before anything is learned of it; tells whether it was not there yet."""
        store = self.store
        if _place(store["recent"][row], peer.key) >= 0:
            return False
        free = np.flatnonzero(store["recent"][row] == 0)
        if not len(free):
            return False
        place = int(free[0])
        likely = max(float(store["rate"][row]), 1 / (2 + int(store["tells"][row])))
        bits = min(_MOST, -float(np.log2(likely)))
        bits += _NEW_PLACE * (self._unseen("ports", row, peer.port) + self._unseen("namespaces", row, peer.namespace))
        store["recent"][row, place], store["recent_at"][row, place] = peer.key, tick
        store["recent_bits"][row, place] = bits
        store["recent_port"][row, place], store["recent_namespace"][row, place] = peer.port, peer.namespace
        return True

    def _unseen(self, name: str, row: int, key: int) -> bool:
        return bool(key) and _place(self.store[name][row], key) < 0

    def experience(self, row: int, tick: int) -> tuple[int, int]:
        """Return for how long a workload has been watched (s), and how often it has told."""
        return tick - int(self.store["since"][row]), int(self.store["tells"][row])

    def surprise(self, row: int, tick: int) -> Surprise:
        """Return what the workload's new peers come to."""
        store = self.store
        there = store["recent"][row] != 0
        ports, namespaces = (
            len({k for k in store[f"recent_{one}"][row][there].tolist() if self._unseen(f"{one}s", row, k)})
            for one in ("port", "namespace")
        )
        return Surprise(
            float(store["recent_bits"][row][there].sum()), int(there.sum()), ports, namespaces,
            float(store["rate"][row]), *self.experience(row, tick),
        )  # fmt: skip

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return the peers by workload name."""
        return self.store.snapshot()

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave."""
        self.store.restore(state)


def _place(keys: npt.NDArray[Any], key: int) -> int:
    return int(kernel.place_of(keys, np.uint64(key)))
