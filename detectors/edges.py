"""Hourly edges of workloads: whom each talked to, on which port, how much. The rows of edges.v1.

Flows are summed per node and minute by addresses, in compiled loops. When a node's minute is over, its addresses are
named as they were when they were heard, and the sums join the hour of their workloads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.frame import ICMP, ICMPV6, SCTP, TCP, UDP, FlowFrame
from detectors.hour_edges import HourEdges, Pieces
from detectors.index import I64, positions
from detectors.kernels import edges as kernel
from detectors.kernels import minutes
from detectors.kernels.grouping import number_words
from detectors.minute import SECONDS
from detectors.slots import Slots
from schemas.addresses import unpack
from schemas.edge import HOUR, Edge
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject

PUBLISHED_EVERY = 600  # s: how old what a proof knows of a workload's peers may be
MOST_EDGES = 1 << 17  # of all nodes, about 10 MB
_PAIRS_OF_NODE = 8192  # pairs of addresses and a service that talked in one node's minute
_PAIRS = 1 << 17  # of all nodes, 14 MB
_PROTOCOLS = {TCP: "TCP", UDP: "UDP", SCTP: "SCTP", ICMP: "ICMP", ICMPV6: "ICMP"}
_ENDS = 1 << 15  # addresses whose owners are remembered, about 8 MB
_NAME, _WORKLOAD = 253, 320  # characters kept; the API allows no more


class _End(NamedTuple):
    """Who had an address from a tick to before another, and whether it is a workload's."""

    begin: int
    end: int
    text: str
    owned: bool


class EdgeBook:
    """Gathers ticks; gives a node's edges when its clock passes ten minutes, and at its hour's end.

    ``counts`` says what it holds and how much was left out: ``shed`` pairs of a crowded minute, ``peers`` beyond a
    workload's limit, ``edges`` beyond that of a node or of all.
    """

    state_version: ClassVar[int] = 1

    def __init__(self, identities: IdentityTable) -> None:
        self._identities = identities
        self._table = Slots(_PAIRS, kernel.WIDTH)
        self._nodes: I64 = np.zeros((1, 4), np.int64)
        self._collected = False
        self._clock: dict[int, tuple[str, int, int]] = {}  # by node number: name, minute, published up to
        self._hours: dict[str, HourEdges] = {}  # by name of the node
        self._lost: Counter[str] = Counter(shed=0, peers=0, edges=0)
        self._ends: dict[bytes, _End] = {}  # by packed address
        self._told = -1  # of the identities when they were found

    def counts(self) -> dict[str, int]:
        """Return how many edges are held, and what was left out since the state began."""
        return {"keys": sum(map(len, self._hours.values())), **self._lost}

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
        table.make_room(len(frame))
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
            said = list(self._flush(node, cluster))
            self._clock[node] = (name, minute, minute // PUBLISHED_EVERY)
            return said
        _, before, published = known
        if minute <= before:
            return []
        said = list(self._flush(node, cluster))
        due = (minute - SECONDS) // PUBLISHED_EVERY
        self._clock[node] = (name, minute, max(due, published))
        if due > published:
            said += [edge for other in self._due(name, minute) for edge in _said(cluster, other, self._hours[other])]
            self._hours = {n: h for n, h in self._hours.items() if h.hour > minute - SECONDS - 2 * HOUR}
        return said

    def _due(self, name: str, minute: int) -> list[str]:
        """Return a node and those whose last hour is long over: they may never speak again."""
        over = [n for n, h in self._hours.items() if h.hour <= minute - SECONDS - 2 * HOUR and n != name]
        return [*sorted(over), *([name] if name in self._hours else [])]

    def _flush(self, node: int, cluster: str) -> Iterator[Edge]:
        """Let a node's minute join its hour; what is left to say of an hour before that is said."""
        self._lost["shed"] += int(self._nodes[node, 2])
        self._nodes[node, 2] = 0
        if not self._nodes[node, 1]:
            return
        table = self._table
        rows = minutes.collect(table.rows, table.free, table.state, self._nodes, node)[::-1]  # as they were first seen
        self._collected = True
        name, minute, _ = self._clock[node]
        hour = (minute - 1) // HOUR * HOUR
        edges = self._hours.get(name)
        if edges is None or edges.hour != hour:
            if edges is not None:
                yield from _said(cluster, name, edges)
            edges = self._hours[name] = HourEdges(hour)
        room = MOST_EDGES - sum(map(len, self._hours.values()))
        self._lost.update(edges.add(*self._pieces(rows), room))

    def _pieces(self, rows: I64) -> tuple[Pieces, list[str]]:
        """Return what the rows of a minute mean to the workloads at their ends, and the texts of all ends."""
        rows = rows[np.isin(rows[:, kernel.SERVICE] >> 16, list(_PROTOCOLS))]
        words = rows[:, kernel.SOURCE : kernel.SERVICE].reshape(-1, 2)  # source and destination of each row
        number, first = number_words(words[:, 0].copy(), words[:, 1].copy())
        ticks = np.repeat(rows[:, kernel.TICK], 2)
        latest = np.zeros(len(first), np.int64)
        np.maximum.at(latest, number, ticks)
        earliest = latest.copy()
        np.minimum.at(earliest, number, ticks)
        texts: dict[str, int] = {}
        ends, owned = np.zeros(len(words), np.int64), np.zeros(len(words), np.bool_)
        named: list[tuple[int, bool]] = []
        firsts, lasts = earliest.tolist(), latest.tolist()
        for place, packed in enumerate(_packed(words[first])):
            end = self._end(packed, lasts[place])
            if end.begin <= firsts[place]:
                named.append((texts.setdefault(end.text, len(texts)), end.owned))
                continue
            named.append((-1, False))  # It changed hands within the minute: row by row.
            for row in positions(number == place).tolist():
                end = self._end(packed, int(ticks[row]))
                ends[row], owned[row] = texts.setdefault(end.text, len(texts)), end.owned
        known = np.array(named, np.int64).reshape(-1, 2)
        plain = known[number, 0] >= 0
        ends[plain], owned[plain] = known[number[plain], 0], known[number[plain], 1] != 0
        return _both_ways(rows, ends.reshape(-1, 2), owned.reshape(-1, 2)), list(texts)

    def _end(self, packed: bytes, tick: int) -> _End:
        """Return who had an address at a tick; asked once while nothing new is told and the answer holds."""
        if self._identities.told != self._told or len(self._ends) > _ENDS:
            self._told = self._identities.told
            self._ends.clear()
        known = self._ends.get(packed)
        if known is None or not known.begin <= tick < known.end:
            ip = unpack(packed)
            known = self._ends[packed] = _named(self._identities.find(ip, tick), ip, self._identities.span(ip, tick))
        return known

    def snapshot(self) -> dict[str, Any]:
        """Return what is gathered so far."""
        return {
            "clock": [[node, *known] for node, known in sorted(self._clock.items())],
            "table": self._table.snapshot(),
            "nodes": self._nodes,
            "hours": {name: edges.snapshot() for name, edges in sorted(self._hours.items())},
            "lost": dict(sorted(self._lost.items())),
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
        self._hours = {str(name): HourEdges.restored(edges) for name, edges in state["hours"].items()}
        self._table.restore(state["table"], rows)
        self._nodes, self._collected = nodes, False
        self._clock = {int(n): (str(name), int(minute), int(due)) for n, name, minute, due in state["clock"]}
        self._lost = Counter({str(k): int(v) for k, v in state["lost"].items()})


def _named(item: InventoryObject | None, ip: str, span: tuple[int, int]) -> _End:
    if item is None:
        return _End(*span, ip, False)
    if item.kind == "Node":
        return _End(*span, f"Node/{item.name[:_NAME]}", False)
    workload = (item.workload or f"{item.kind}/{item.name}")[:_WORKLOAD]
    return _End(*span, f"{item.namespace[:_NAME]}/{workload}", item.kind != "Service")


def _both_ways(rows: I64, ends: I64, owned: npt.NDArray[np.bool_]) -> Pieces:
    """Return the pieces of those ends that are workloads, as initiators and as responders, in the order of the rows."""
    ways = []
    for own, peer, initiated, sums in (
        (0, 1, True, (kernel.FLOWS, kernel.SENT, kernel.RECEIVED)),
        (1, 0, False, (kernel.FLOWS, kernel.RECEIVED, kernel.SENT)),
    ):
        mine = positions(owned[:, own])
        ways.append(
            Pieces(
                ends[mine, own], ends[mine, peer], rows[mine, kernel.SERVICE], np.full(len(mine), initiated),
                rows[mine][:, sums],
            )
        )  # fmt: skip
    return Pieces(*(np.concatenate(columns) for columns in zip(*ways, strict=True)))


def _packed(words: I64) -> list[bytes]:
    raw = np.ascontiguousarray(words).tobytes()
    return [raw[at : at + 16] for at in range(0, len(raw), 16)]


def _said(cluster: str, node: str, edges: HourEdges) -> list[Edge]:
    """Return what changed of a node's edges since it was last said."""
    out = []
    for edge in edges.changed():
        namespace, _, workload = edge.own.partition("/")
        out.append(
            Edge(
                cluster=cluster, node=node, namespace=namespace, workload=workload, hour=edges.hour, peer=edge.peer,
                port=edge.service & 0xFFFF, protocol=_PROTOCOLS[edge.service >> 16], initiated=edge.initiated,
                flows=edge.flows, bytes_sent=edge.sent, bytes_received=edge.received,
            )
        )  # fmt: skip
    return out
