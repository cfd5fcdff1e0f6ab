"""Hourly edges of workloads: whom each talked to, on which port, how much. The rows of edges.v1.

Flows are summed per node and minute by addresses, in compiled loops. When a node's minute is over, its addresses are
named as they were when they were last heard, and the sums join the hour of their workloads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from detectors.frame import ICMP, ICMPV6, SCTP, TCP, UDP, FlowFrame
from detectors.index import I64
from detectors.kernels import edges as kernel
from detectors.kernels import minutes
from detectors.minute import SECONDS
from detectors.slots import Slots
from schemas.addresses import unpack
from schemas.edge import HOUR, Edge
from schemas.identity import IdentityTable

PUBLISHED_EVERY = 600  # s: how old what a proof knows of a workload's peers may be
# Peers and ports of one workload on one node in one hour; ordinary services have a few tens.
MOST_OF_WORKLOAD = 256
MOST_EDGES = 1 << 16  # of all nodes, about 30 MB
_PAIRS_OF_NODE = 8192  # pairs of addresses and a service that talked in one node's minute
_PAIRS = 1 << 17  # of all nodes, 14 MB
_PROTOCOLS = {TCP: "TCP", UDP: "UDP", SCTP: "SCTP", ICMP: "ICMP", ICMPV6: "ICMP"}
_NAME, _WORKLOAD = 253, 320  # characters kept; the API allows no more


class EdgeKey(NamedTuple):
    """What names an edge."""

    node: str
    hour: int
    namespace: str
    workload: str
    peer: str
    protocol: str
    port: int
    initiated: bool


class _End(NamedTuple):
    text: str
    namespace: str
    workload: str  # empty: it is no workload's


class EdgeBook:
    """Gathers ticks; gives a node's edges when its clock passes ten minutes, and at its hour's end.

    ``counts`` says what it holds and how much was left out: ``shed`` pairs of a crowded minute, ``peers`` beyond a
    workload's limit, ``edges`` beyond that of all.
    """

    state_version: ClassVar[int] = 1

    def __init__(self, identities: IdentityTable) -> None:
        self._identities = identities
        self._table = Slots(_PAIRS, kernel.WIDTH)
        self._nodes: I64 = np.zeros((1, 4), np.int64)
        self._collected = False
        self._clock: dict[int, tuple[str, int, int]] = {}  # by node number: name, minute, published up to
        self._edges: dict[EdgeKey, I64] = {}  # flows, bytes sent, bytes received
        self._of_workload: Counter[tuple[str, int, str, str]] = Counter()
        self._changed: dict[EdgeKey, None] = {}
        self._keys: npt.NDArray[np.uint8] | None = None  # of the edges, as kept; none: to be made again
        self._lost: Counter[str] = Counter(shed=0, peers=0, edges=0)

    def counts(self) -> dict[str, int]:
        """Return how many edges are held, and what was left out since the state began."""
        return {"keys": len(self._edges), **self._lost}

    def add_flows(self, frame: FlowFrame, ours: npt.NDArray[np.bool_]) -> None:
        """Add a frame's groups; copies are another node's to report.

        Args:
            frame: one round, of nodes that `close` was called for.
            ours: per address, whether it may be a workload's.
        """
        if not self._identities.counts()["objects"]:
            return  # Without names there are no workloads.
        table = self._table
        if self._collected:
            table.rebuild()
            self._collected = False
        # Most groups of a busy node are pairs that are there already.
        table.make_room(min(len(frame), _PAIRS))
        measures = (
            frame.opened, frame.src_bytes, frame.dst_bytes, frame.src_packets, frame.dst_packets, frame.established,
            frame.refused,
        )  # fmt: skip
        columns = frame.columns
        kernel.gather(
            table.cells, table.rows, table.free, table.state, self._nodes, table.capacity, frame.place,
            columns.by_place("tick"), columns.by_place("node"), frame.src, frame.dst, frame.service, frame.copy, ours,
            frame.hashes, frame.addresses.view(np.int64), measures,
        )  # fmt: skip

    def close(self, node: int, name: str, tick: int, cluster: str) -> list[Edge]:
        """Tell that a node reached a tick, before its rows are added; returns the edges that it is time to say.

        A tick is the end of its second, so tick 3600 belongs to the hour that ends at 3600.
        """
        minute = -(-tick // SECONDS) * SECONDS
        if node >= len(self._nodes):
            self._nodes = np.concatenate([self._nodes, np.zeros((node + 1, 4), np.int64)])
        self._nodes[node, minutes.LIMIT] = _PAIRS_OF_NODE
        known = self._clock.get(node)
        if known is None or known[0] != name:
            self._flush(node)
            self._clock[node] = (name, minute, minute // PUBLISHED_EVERY)
            return []
        _, before, published = known
        if minute <= before:
            return []
        self._flush(node)
        due = (minute - SECONDS) // PUBLISHED_EVERY
        self._clock[node] = (name, minute, max(due, published))
        if due <= published:
            return []
        return self._publish(name, cluster) + self._let_go(name, (minute - SECONDS) // HOUR * HOUR, cluster)

    def _flush(self, node: int) -> None:
        """Let a node's minute join the hour of its workloads."""
        known = self._clock.get(node)
        self._lost["shed"] += int(self._nodes[node, 2])
        if not self._nodes[node, 1]:
            self._nodes[node, 2] = 0
            return
        table = self._table
        rows = minutes.collect(table.rows, table.free, table.state, self._nodes, node)
        self._collected = True
        if known is None:
            return
        name, minute, _ = known
        hour = (minute - 1) // HOUR * HOUR
        ends: dict[tuple[bytes, int], _End] = {}
        packed = rows[:, kernel.SOURCE : kernel.SERVICE].tobytes()
        numbers = rows[:, kernel.SERVICE :].tolist()
        for row in range(len(rows) - 1, -1, -1):  # as they were first seen
            service, tick, flows, sent, received = numbers[row]
            protocol = _PROTOCOLS.get(service >> 16)
            if protocol is None:
                continue
            source = self._end(ends, packed[32 * row : 32 * row + 16], tick)
            destination = self._end(ends, packed[32 * row + 16 : 32 * row + 32], tick)
            port = service & 0xFFFF
            for own, peer, initiated, counts in (
                (source, destination, True, (flows, sent, received)),
                (destination, source, False, (flows, received, sent)),
            ):
                if own.workload:
                    key = EdgeKey(name, hour, own.namespace, own.workload, peer.text, protocol, port, initiated)
                    self._add(key, counts)

    def _end(self, known: dict[tuple[bytes, int], _End], packed: bytes, tick: int) -> _End:
        end = known.get((packed, tick))
        if end is None:
            end = known[packed, tick] = _named(self._identities, unpack(packed), tick)
        return end

    def _add(self, key: EdgeKey, counts: tuple[int, int, int]) -> None:
        sums = self._edges.get(key)
        if sums is None:
            owner = (key.node, key.hour, key.namespace, key.workload)
            if self._of_workload[owner] >= MOST_OF_WORKLOAD:
                self._lost["peers"] += 1
                return
            if len(self._edges) >= MOST_EDGES:
                self._lost["edges"] += 1
                return
            self._of_workload[owner] += 1
            sums = self._edges[key] = np.zeros(3, np.int64)
            self._keys = None
        sums += counts
        self._changed[key] = None

    def _publish(self, name: str, cluster: str) -> list[Edge]:
        """Return what changed of a node's edges since it was last said."""
        keys = sorted(key for key in self._changed if key.node == name)
        for key in keys:
            del self._changed[key]
        return [_edge(cluster, key, self._edges[key]) for key in keys]

    def _let_go(self, name: str, hour: int, cluster: str) -> list[Edge]:
        """Forget a node's hours before one, and those of nodes that are an hour behind, which are said before."""
        gone = {key for key in self._edges if key.hour < (hour if key.node == name else hour - HOUR)}
        if not gone:
            return []
        last = [_edge(cluster, key, self._edges[key]) for key in sorted(gone & self._changed.keys())]
        self._edges = {key: sums for key, sums in self._edges.items() if key not in gone}
        self._changed = {key: None for key in self._changed if key not in gone}
        self._of_workload = Counter((k.node, k.hour, k.namespace, k.workload) for k in self._edges)
        self._keys = None
        return last

    def snapshot(self) -> dict[str, Any]:
        """Return what is gathered so far."""
        if self._keys is None:
            # As bytes of their own: they change once a minute, and are not written again until then.
            self._keys = np.frombuffer(orjson.dumps([tuple(key) for key in self._edges]), np.uint8)
        number = {key: place for place, key in enumerate(self._edges)}
        return {
            "clock": [[node, *known] for node, known in sorted(self._clock.items())],
            "table": self._table.snapshot(),
            "nodes": self._nodes,
            "keys": self._keys,
            "sums": np.array(list(self._edges.values()), np.int64).reshape(-1, 3),
            "changed": np.array([number[key] for key in self._changed], np.int64),
            "lost": dict(self._lost),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take in what ``snapshot`` gave.

        Raises:
            ValueError: it is damaged.
        """
        rows, nodes = np.array(state["table"]["rows"]), np.array(state["nodes"])
        inside = (rows[:, minutes.NODE] < len(nodes)) & (rows[:, minutes.NODE] >= 0)
        chained = (rows[:, minutes.NEXT] >= 0) & (rows[:, minutes.NEXT] <= len(rows))
        if not (inside & chained).all() or (nodes[:, 0] < 0).any() or (nodes[:, 0] > len(rows)).any():
            problem = "the rows of a minute do not fit their nodes"
            raise ValueError(problem)
        keys = [EdgeKey(*key) for key in orjson.loads(np.asarray(state["keys"], np.uint8).tobytes())]
        edges = dict(zip(keys, np.array(state["sums"], np.int64), strict=True))
        changed = {keys[place]: None for place in np.asarray(state["changed"]).tolist()}
        self._table.restore(state["table"], rows)
        self._nodes, self._collected = nodes, False
        self._clock = {int(n): (str(name), int(minute), int(due)) for n, name, minute, due in state["clock"]}
        self._edges, self._changed, self._keys = edges, changed, None
        self._of_workload = Counter((k.node, k.hour, k.namespace, k.workload) for k in edges)
        self._lost = Counter({str(k): int(v) for k, v in state["lost"].items()})


def _named(identities: IdentityTable, ip: str, tick: int) -> _End:
    item = identities.find(ip, tick)
    if item is None:
        return _End(ip, "", "")
    if item.kind == "Node":
        return _End(f"Node/{item.name}", "", "")
    namespace, workload = item.namespace[:_NAME], (item.workload or f"{item.kind}/{item.name}")[:_WORKLOAD]
    return _End(f"{namespace}/{workload}", namespace, "" if item.kind == "Service" else workload)


def _edge(cluster: str, key: EdgeKey, sums: I64) -> Edge:
    flows, sent, received = sums.tolist()
    return Edge(
        cluster=cluster, node=key.node, namespace=key.namespace, workload=key.workload, hour=key.hour, peer=key.peer,
        port=key.port, protocol=key.protocol, initiated=key.initiated, flows=flows, bytes_sent=sent,
        bytes_received=received,
    )  # fmt: skip
