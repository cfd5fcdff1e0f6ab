"""Tracked connections to flow rows, where packets may not be captured: one row at the beginning, one at the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.index import KeyIndex
from detectors.mixing import combine
from exporter.chunks import I64, U8
from exporter.flow_marks import CLOSED, ESTABLISHED, OPENED, UNANSWERED
from exporter.flow_rows import RowBlock, join_rows
from exporter.gather import U64
from exporter.network_layer import Bool
from exporter.packets import TCP
from exporter.sides import Locality
from exporter.sources.ctnetlink import ASSURED, SEEN_REPLY, Connections
from exporter.tuples import is_icmp, tuple_keys

_COUNTED = ("src_packets", "src_bytes", "dst_packets", "dst_bytes")


class ConnectionRows:
    """The connections of one node, from when they are told to begin until the kernel forgets them.

    Args:
        capacity: connections followed at once; of more, the new ones are not reported, and counted.
        node_hash: tells flow ids of nodes apart.
        place: whose connections are reported.
        seed: of hashes.

    Attributes:
        lost: connections that there was no room for, since it was last set to 0.
    """

    def __init__(self, capacity: int, node_hash: int, place: Locality, seed: int) -> None:
        self._index = KeyIndex(capacity)
        self._node, self._place, self._seed = np.uint64(node_hash), place, seed
        self._started = np.zeros(capacity, np.int64)
        self._flow_id = np.zeros(capacity, np.uint64)
        self._missing = np.zeros(0, np.uint64)
        self._kept: list[RowBlock] = []
        self.lost = 0

    def know(self, found: Connections, began: int) -> None:
        """Take in connections that are older than the exporter: their end alone is reported."""
        keys = tuple_keys(found.origin, found.proto, self._seed)
        fresh = (_turns(keys) == 0) & (self._index.lookup(keys) < 0) & ~found.destroyed & self._ours(found)
        self._begin(found, np.flatnonzero(fresh), began)

    def resume(self, found: Sequence[Connections], now: int) -> None:
        """Take in all connections that there are: those not known yet began meanwhile, and were not told.

        Those that are missing now and were missing the last time have ended, and how is not known: they are let go
        without a row. The end of one that is missing for the first time may just be on its way.
        """
        keys = [tuple_keys(part.origin, part.proto, self._seed) for part in found]
        live = self._index.live()
        missing = live[~np.isin(self._index.keys(live), np.concatenate([*keys, np.zeros(0, np.uint64)]))]
        again = np.isin(self._index.keys(missing), self._missing)
        self._missing = self._index.keys(missing[~again])
        self._index.remove(missing[again])
        for part in found:
            self.take(part, now)

    def _ours(self, found: Connections) -> Bool:
        """Tell which are this node's to report: those of its own pods and its own, and those from outside."""
        high, low = found.origin.src_high, found.origin.src_low
        return self._place.is_own(high, low) | self._place.is_local(high, low) | ~self._place.in_cluster(high, low)

    def _begin(self, found: Connections, rows: I64, now: int) -> I64:
        keys = tuple_keys(found.origin, found.proto, self._seed)[rows]
        slots = self._index.insert(keys)
        self.lost += int((slots < 0).sum())
        rows, keys, slots = rows[slots >= 0], keys[slots >= 0], slots[slots >= 0]
        self._started[slots] = now
        # The kernel's numbers come again, but not for the same ends at the same time.
        self._flow_id[slots] = combine(keys ^ np.full(len(slots), now, np.uint64), found.number[rows] ^ self._node)
        return rows

    def take(self, found: Connections, now: int) -> None:
        """Take in what has happened, in its order: ends that are used again at once end first and then begin."""
        keys = tuple_keys(found.origin, found.proto, self._seed)
        turns = _turns(keys)
        for turn in range(int(turns.max(initial=-1)) + 1):
            rows = np.flatnonzero(turns == turn)
            known = self._index.lookup(keys[rows]) >= 0
            ended = rows[known & found.destroyed[rows]]
            fresh = rows[~known & ~found.destroyed[rows]]
            begun = self._begin(found, fresh[self._ours(found)[fresh]], now)
            if len(begun):
                self._kept.append(self._rows(found, begun, np.full(len(begun), OPENED, np.uint8), now))
            if len(ended):
                self._kept.append(self._rows(found, ended, self._endings(found, ended), now))
                self._index.remove(self._index.lookup(keys[ended]))

    @staticmethod
    def _endings(found: Connections, rows: I64) -> U8:
        """What became of connections; TCP that a RST refused had an answer, but was never assured."""
        status = found.status[rows]
        answered = status & SEEN_REPLY != 0
        established = np.where(found.proto[rows] == TCP, status & ASSURED != 0, answered)
        marks: U8 = (CLOSED | established * ESTABLISHED | ~answered * UNANSWERED).astype(np.uint8)
        return marks

    def _rows(self, found: Connections, at: I64, marks: U8, now: int) -> RowBlock:
        origin, reply, proto = found.origin.some(at), found.reply.some(at), found.proto[at]
        slots = self._index.lookup(tuple_keys(origin, proto, self._seed))
        icmp = is_icmp(proto)
        zero, none = np.zeros(len(at), np.int64), np.zeros(len(at), np.uint64)
        moved = (origin.dst_low != reply.src_low) | (origin.dst_high != reply.src_high)
        moved |= origin.dst_port != reply.src_port
        renamed = (origin.src_low != reply.dst_low) | (origin.src_high != reply.dst_high)
        renamed |= origin.src_port != reply.dst_port
        closing = marks & CLOSED != 0
        rows: RowBlock = {
            "flow_id": self._flow_id[slots], "conn_start": self._started[slots], "start": np.where(
                closing, self._started[slots], now), "end": zero + now, "marks": marks, "proto": proto,
            "src_high": origin.src_high, "src_low": origin.src_low, "src_port": np.where(icmp, 0, origin.src_port),
            "dst_high": reply.src_high, "dst_low": reply.src_low, "dst_port": np.where(icmp, 0, reply.src_port),
            "icmp_id": np.where(icmp, origin.src_port, 0), "icmp_type": found.icmp[at] >> 8,
            "icmp_code": found.icmp[at] & 255, "interface": zero, "app": zero,
            "direction_known": np.ones(len(at), np.bool_), "copy": np.zeros(len(at), np.bool_),
        }  # fmt: skip
        for part, before, after in (
            ("high", origin.dst_high, reply.dst_high), ("low", origin.dst_low, reply.dst_low),
            ("port", origin.dst_port, reply.dst_port),
        ):  # fmt: skip
            shown = ~icmp if part == "port" else np.ones(len(at), np.bool_)
            rows[f"orig_dst_{part}"] = np.where(moved & shown, before, none if part != "port" else zero)
            rows[f"nat_src_{part}"] = np.where(renamed & shown, after, none if part != "port" else zero)
        for column, name in enumerate(_COUNTED):
            rows[name] = np.where(closing, found.counted[at, column], 0)
            rows[f"total_{name}"] = rows[name]
        return rows

    def close(self) -> RowBlock:
        """Return the rows since the last time."""
        kept, self._kept = self._kept, []
        return join_rows(kept)


def _turns(keys: U64) -> I64:
    """Return how many equal keys came before each; shape (n,)."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(keys) else order
    turns = np.empty(len(keys), np.int64)
    turns[order] = np.arange(len(keys)) - np.repeat(begins, np.diff(np.append(begins, len(keys))))
    return turns
