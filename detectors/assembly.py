"""From messages to closed ticks: parts, repeats, gaps, clocks, silences and ends of each node's log."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pyarrow as pa

from detectors.node_log import Key, NodeLog, Second, Speaker, speaker_key
from detectors.partition_time import ActiveTime, Slowest
from detectors.settings import EngineSettings
from schemas.event_codec import EventMessage
from schemas.finding import DataQuality

# What one second of one node may claim to have lost, so that sums over nodes fit a rollup's header.
_MOST = 1 << 32
_GOOD = DataQuality()
# Active time after which the number of a silent or ended node may be given to a new one. Windows are shorter.
_FORGET_MS = 3_600_000


@dataclass(frozen=True)
class Passed:
    """The partition's watermark has moved: all nodes that are waited for have passed a tick."""

    tick: int
    silent: int  # nodes that are not heard and so were not waited for
    idle: bool  # no node is left that could say more


@dataclass(frozen=True)
class ClosedTick:
    """All that one node said of one second.

    ``joins`` is the tick whose rollups it counts in: its own, or the present one where the partition has passed its
    own. ``first``: the number is new, or had been another node's, of which nothing may be kept. ``silent``: the node
    has not been heard for the silence time; nobody but us closed the tick. ``passed``: where the watermark moved when
    this tick was closed.
    """

    node: int
    tick: int
    capabilities: int
    batches: dict[str, list[pa.RecordBatch]]
    quality: DataQuality
    joins: int = 0
    first: bool = False
    silent: bool = False
    passed: Passed | None = None


class Assembler:
    """Turns a partition's messages into closed ticks, node by node, in log order.

    A tick closes when all exporters of its node have said all of it, when a later cut of the node arrives, or when
    the node falls silent. The log and its append times decide, so how messages are batched does not matter.

    ``counts`` says how often since the state began: ``repeats`` dropped, ``lost`` messages, ``late`` ones,
    ``restamped`` ones, ``forced`` closings of seconds with too many parts or beside too many others, ``silences``,
    ``refused`` messages of nodes beyond the limit.
    """

    state_version: ClassVar[int] = 1

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self.nodes: list[NodeLog] = []
        self._number: dict[str, int] = {}
        self.cluster = settings.cluster
        self.counts: Counter[str] = Counter()
        self._time = ActiveTime()
        self._waited = Slowest(lambda number: self.nodes[number].tick)
        self._going: set[int] = set()
        self._watermark = 0
        self._begun = False

    def offer(self, message: EventMessage) -> list[ClosedTick]:
        """Take one message; return the ticks that it closes, in an order that the log alone decides."""
        self._time.advance(message.appended_ms)
        number = self._admit(message)
        speaker = None if number is None else self.nodes[number].speaker(message)
        accepted = speaker is not None and speaker.fresh(message.header.sequence)
        if accepted and number is not None:
            self._hear(number, message)
        elif number is not None:
            self.counts["repeats"] += 1
        closed = []
        for other in self._time.overdue(self._settings.silence_s * 1000):
            closed += self._fall_silent(other)
        if accepted and number is not None and speaker is not None:
            closed += self._take(number, speaker, message)
        return self._move_on(closed)

    def _take(self, number: int, speaker: Speaker, message: EventMessage) -> list[ClosedTick]:
        self.cluster = self.cluster or message.header.cluster
        node = self.nodes[number]
        message, restamped = node.restamped(message, self._settings.skew_s)
        header = message.header
        closed = [self._close(number, cut) for cut in sorted(node.pending) if cut < header.cut]
        # A cut that was passed already waits for the present tick, so that lateness never drives the node's time.
        late = header.cut <= node.tick
        cut = node.tick + 1 if late else header.cut
        second = node.pending.setdefault(cut, Second())
        second.add(message, late=late, restamped=restamped)
        if late or second.complete(speaker_key(message)):
            speaker.completed = max(speaker.completed, header.cut)
        speaker.ends(header)
        if late or restamped:
            self.counts["late"] += int(late)
            self.counts["restamped"] += int(restamped)
        if not late and node.ready(cut):
            closed.append(self._close(number, cut))
        closed += self._bound(number, cut)
        if node.over():
            closed += [self._close(number, rest) for rest in sorted(node.pending)]
            self._leave(number)
            node.ended = True
        return closed

    def _bound(self, number: int, cut: int) -> list[ClosedTick]:
        """Close what would grow beyond its limits."""
        pending = self.nodes[number].pending
        if not pending:
            return []
        full = cut in pending and len(pending[cut].messages) >= self._settings.max_parts_pending
        beside = sorted(pending)[: max(0, len(pending) - self._settings.max_cuts_pending)]
        forced = [c for c in sorted(pending) if c in beside or (full and c <= cut)]
        self.counts["forced"] += len(forced)
        return [self._close(number, c) for c in forced]

    def _admit(self, message: EventMessage) -> int | None:
        """Return the number of a message's node; none where there are too many nodes."""
        header = message.header
        number = self._number.get(header.node)
        if number is not None:
            node = self.nodes[number]
            # A capture played again starts its clock anew: its state is that of another node.
            again = header.clock == "capture" and header.boot != node.boot and header.cut <= node.tick - 5
            if not again:
                return number
            self._leave(number)
            node.ended = True
        number = self._free()
        if number is None:
            self.counts["refused"] += 1
            return None
        self.nodes[number : number + 1] = [NodeLog(header.node, 0)]
        self._number[header.node] = number
        # By our own clock where its own is wrong. It has passed what lies before its first cut.
        first, _ = self.nodes[number].restamped(message, self._settings.skew_s)
        self.nodes[number].tick = first.header.cut - 1
        return number

    def _free(self) -> int | None:
        """Return a number for a new node: the next one, else that of the node that is gone for longest."""
        if len(self.nodes) < self._settings.max_nodes:
            return len(self.nodes)
        gone = [i for i, n in enumerate(self.nodes) if i not in self._going and self._time.now - n.heard >= _FORGET_MS]
        if not gone:
            return None
        number = min(gone, key=lambda i: (self.nodes[i].heard, i))
        if self._number.get(self.nodes[number].name) == number:
            del self._number[self.nodes[number].name]
        self._waited.reset(number)
        return number

    def _hear(self, number: int, message: EventMessage) -> None:
        node = self.nodes[number]
        node.heard, node.boot = self._time.now, message.header.boot
        node.silent = node.ended = False
        self._going.add(number)
        node.capture = message.header.clock == "capture"
        if not node.capture:
            self._time.hear(number)
        if node.tick >= self._watermark:
            self._waited.add(number)

    def _leave(self, number: int) -> None:
        """Wait for a node no more."""
        self._time.forget(number)
        self._waited.remove(number)
        self._going.discard(number)

    def _fall_silent(self, number: int) -> list[ClosedTick]:
        node = self.nodes[number]
        self._leave(number)
        node.silent = True
        self.counts["silences"] += 1
        node.pending = node.pending or {node.tick + 1: Second()}
        closed = [self._close(number, cut) for cut in sorted(node.pending)]
        return [*closed[:-1], replace(closed[-1], silent=True)]

    def _close(self, number: int, cut: int) -> ClosedTick:
        node = self.nodes[number]
        second = node.pending.pop(cut)
        node.tick = cut
        if number in self._going and cut >= self._watermark:
            self._waited.add(number)
        # Parts in their own order, whatever order they came in.
        if len(second.messages) > 1:
            second.messages.sort(key=lambda m: (m[0].header.cut, *speaker_key(m[0]), m[0].header.sequence))
        messages = [message for message, _, _ in second.messages]
        self._begun = self._begun or not messages or any(map(says_something, messages))
        batches: dict[str, list[pa.RecordBatch]] = {}
        for message in messages:
            for kind, batch in message.batches.items():
                batches.setdefault(kind, []).append(batch)
        if messages:
            node.capabilities = messages[0].header.capabilities
        for message in messages:
            node.capabilities &= message.header.capabilities
        first, node.said = not node.said, True
        quality = self._quality(node, second)
        return ClosedTick(number, cut, node.capabilities, batches, quality, max(cut, self._watermark + 1), first)

    def _quality(self, node: NodeLog, second: Second) -> DataQuality:
        # What the partition has passed is late as a whole: it counts in the rollups of a later tick.
        passed = node.tick <= self._watermark
        sampling, packets, rows, malformed = 1, 0, 0, 0
        late, moved = set[int](), set[int]()
        numbers: dict[Key, list[int]] = {}
        for message, message_late, message_moved in second.messages:
            header = message.header
            numbers.setdefault(speaker_key(message), []).append(header.sequence)
            sampling = max(sampling, header.sampling)
            packets, rows, malformed = (
                packets + header.lost_packets,
                rows + header.lost_rows,
                malformed + header.malformed,
            )
            # Counted as seconds: into how many messages an exporter cuts one must not show.
            if message_late or passed:
                late.add(header.cut)
            if message_moved:
                moved.add(header.cut)
        lost = 0
        for key, found in numbers.items():
            if key in node.speakers:
                lost += node.speakers[key].settle(found)
        notes = []
        if missing := second.missing():
            notes.append(f"{missing} of {sum(second.wanted.values())} parts of a second are missing")
        if node.silent:
            notes.append(f"node {node.name} fell silent")
        notes += dict.fromkeys(note for message, _, _ in second.messages for note in message.header.notes)
        if sampling == 1 and not (packets or rows or malformed or late or moved or lost or notes):
            return _GOOD
        self.counts["lost"] += lost
        return DataQuality(
            sampling=sampling, lost_packets=min(_MOST, packets), lost_rows=min(_MOST, rows),
            malformed=min(_MOST, malformed), late=len(late), lost_messages=min(_MOST, lost), restamped=len(moved),
            notes=tuple(notes),
        )  # fmt: skip

    def _move_on(self, closed: list[ClosedTick]) -> list[ClosedTick]:
        """Move the watermark; the last of the ticks that an offer closed says so."""
        if not closed or not self._begun:
            return closed
        lowest = self._waited.tick()
        if lowest is None and not self._going:
            lowest = max(n.tick for n in self.nodes)
        if lowest is None or lowest <= self._watermark:
            return closed
        self._watermark = lowest
        passed = Passed(lowest, self.silent, self.idle)
        return [*closed[:-1], replace(closed[-1], passed=passed)]

    def watermark(self) -> int | None:
        """Return the tick that all nodes waited for have passed; it never goes back.

        Ended and silent nodes are not waited for, nor is a node that is behind until it has caught up. While
        nodes have said no more than that they are there, nothing is passed: others may begin earlier.
        """
        return self._watermark or None

    @property
    def idle(self) -> bool:
        """Whether no node is left that is heard and has not ended."""
        return not self._going

    @property
    def silent(self) -> int:
        """The number of nodes that are not heard though they have not ended."""
        return sum(n.silent for n in self.nodes)

    def going(self) -> list[NodeLog]:
        """Return the nodes that are heard and have not ended, by name."""
        return sorted((self.nodes[number] for number in self._going), key=lambda node: node.name)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as JSON values and, for messages of unfinished seconds, byte arrays."""
        return {
            "cluster": self.cluster,
            "counts": dict(self.counts),
            "nodes": [node.snapshot() for node in self.nodes],
            "numbers": self._number,
            "time": self._time.snapshot(),
            "going": sorted(self._going),
            "waited": self._waited.members(),
            "watermark": [self._watermark, self._begun],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take in what ``snapshot`` gave."""
        self.cluster = str(state["cluster"])
        self.counts = Counter(state["counts"])
        self.nodes = [NodeLog.restored(node) for node in state["nodes"]]
        self._number = dict(state["numbers"])
        self._time.restore(state["time"])
        self._going = set(state["going"])
        self._watermark, self._begun = state["watermark"]
        self._waited = Slowest(lambda number: self.nodes[number].tick)
        for number in state["waited"]:
            self._waited.add(number)


def says_something(message: EventMessage) -> bool:
    """Tell a message from an exporter's hello, the empty one that only says that its node is there."""
    return message.header.sequence > 0 or message.header.final or bool(message.batches)
