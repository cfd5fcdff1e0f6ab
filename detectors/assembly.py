"""From messages to closed ticks: parts, repeats, gaps and ends of each node's log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from detectors.settings import EngineSettings
from schemas.event_codec import EventMessage, decode, encode
from schemas.events import EventHeader
from schemas.finding import DataQuality

_REMEMBERED = 256  # sequence numbers behind the newest within which a late part is told from a repeat


@dataclass(frozen=True)
class ClosedTick:
    """All that one node said of one second."""

    node: int
    tick: int
    capabilities: int
    batches: dict[str, list[pa.RecordBatch]]
    quality: DataQuality


@dataclass
class _Pending:
    messages: list[EventMessage] = field(default_factory=list)
    parts: set[int] = field(default_factory=set)


@dataclass
class NodeState:
    """Where one node's log stands."""

    name: str
    tick: int
    boot: str
    next_sequence: int
    ended: bool = False
    seen: set[int] = field(default_factory=set)
    pending: dict[int, _Pending] = field(default_factory=dict)


class Assembler:
    """Turns a partition's messages into closed ticks, node by node, in log order.

    A tick closes with its last part, or when a later cut of its node arrives: the log order decides, so
    how messages are batched does not matter.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self.nodes: list[NodeState] = []
        self._number: dict[str, int] = {}
        self.cluster = settings.cluster
        self.repeats = 0
        self.refused_nodes = 0

    def offer(self, message: EventMessage) -> list[ClosedTick]:
        """Take one message; return the ticks that it closes, ascending."""
        header = message.header
        number = self._node(header)
        if number is None:
            return []
        node = self.nodes[number]
        lost = self._sequence(node, header)
        if lost is None:
            self.repeats += 1
            return []
        self.cluster = self.cluster or header.cluster
        closed = [self._close(number, cut, 0) for cut in sorted(node.pending) if cut < header.cut]
        # A cut that was passed already (spooled during an outage) is counted in the present tick.
        cut = max(header.cut, node.tick + 1) if node.tick else header.cut
        pending = node.pending.setdefault(cut, _Pending())
        pending.messages.append(message)
        pending.parts.add(header.part)
        whole = len(pending.parts) == header.parts or len(pending.messages) >= self._settings.max_parts_pending
        if whole or header.cut < cut:
            closed.append(self._close(number, cut, lost))
        node.ended = header.final
        return closed

    def _node(self, header: EventHeader) -> int | None:
        number = self._number.get(header.node)
        if number is not None:
            node = self.nodes[number]
            # A capture played again starts its clock anew: its state is that of another node.
            again = header.clock == "capture" and header.boot != node.boot and header.cut <= node.tick - 5
            if not again:
                return number
            node.ended = True
        if len(self.nodes) >= self._settings.max_nodes:
            self.refused_nodes += 1
            return None
        self.nodes.append(NodeState(header.node, 0, header.boot, header.sequence))
        self._number[header.node] = len(self.nodes) - 1
        return len(self.nodes) - 1

    @staticmethod
    def _sequence(node: NodeState, header: EventHeader) -> int | None:
        """Return how many messages are missing before this one; none for a repeat."""
        if header.boot != node.boot:
            node.boot, node.next_sequence = header.boot, header.sequence
            node.seen.clear()
        if header.sequence in node.seen or header.sequence < node.next_sequence - _REMEMBERED:
            return None
        lost = max(0, header.sequence - node.next_sequence)
        node.seen.add(header.sequence)
        node.next_sequence = max(node.next_sequence, header.sequence + 1)
        if len(node.seen) > 2 * _REMEMBERED:
            node.seen = {s for s in node.seen if s >= node.next_sequence - _REMEMBERED}
        return lost

    def _close(self, number: int, cut: int, lost: int) -> ClosedTick:
        node = self.nodes[number]
        pending = node.pending.pop(cut)
        node.tick = cut
        headers = [m.header for m in pending.messages]
        batches: dict[str, list[pa.RecordBatch]] = {}
        # Parts in their own order, whatever order they came in.
        for message in sorted(pending.messages, key=lambda m: (m.header.sequence, m.header.part)):
            for kind, batch in message.batches.items():
                batches.setdefault(kind, []).append(batch)
        capabilities = headers[0].capabilities
        for header in headers[1:]:
            capabilities &= header.capabilities
        missing = headers[0].parts - len(pending.parts)
        notes = tuple(dict.fromkeys(note for header in headers for note in header.notes))
        if missing > 0:
            notes = (f"{missing} of {headers[0].parts} parts of a second are missing", *notes)
        quality = DataQuality(
            sampling=max(h.sampling for h in headers),
            lost_packets=sum(h.lost_packets for h in headers),
            lost_rows=sum(h.lost_rows for h in headers),
            malformed=sum(h.malformed for h in headers),
            late=sum(h.cut < cut for h in headers),
            notes=(f"{lost} messages are missing", *notes) if lost else notes,
        )
        return ClosedTick(number, cut, capabilities, batches, quality)

    def watermark(self) -> int | None:
        """Return the tick that all nodes still going have passed; the last one where all have ended."""
        going = [n.tick for n in self.nodes if not n.ended]
        if going:
            return min(going)
        return max((n.tick for n in self.nodes), default=None)

    @property
    def idle(self) -> bool:
        """Whether every node has ended."""
        return all(n.ended for n in self.nodes)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as JSON values and, for messages of unfinished seconds, byte arrays."""
        return {
            "cluster": self.cluster,
            "counters": [self.repeats, self.refused_nodes],
            "nodes": [[n.name, n.tick, n.boot, n.next_sequence, n.ended, sorted(n.seen)] for n in self.nodes],
            "pending": [
                [number, cut, np.frombuffer(encode(message), np.uint8)]
                for number, node in enumerate(self.nodes)
                for cut, pending in sorted(node.pending.items())
                for message in pending.messages
            ],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take in what ``snapshot`` gave."""
        self.cluster = str(state["cluster"])
        nodes = state["nodes"]
        self.repeats, self.refused_nodes = state["counters"]
        self.nodes = [NodeState(n[0], n[1], n[2], n[3], n[4], set(n[5])) for n in nodes]
        self._number = {n.name: i for i, n in enumerate(self.nodes)}
        for number, cut, raw in state["pending"]:
            message = decode(np.asarray(raw, np.uint8).tobytes())
            pending = self.nodes[number].pending.setdefault(cut, _Pending())
            pending.messages.append(message)
            pending.parts.add(message.header.part)
