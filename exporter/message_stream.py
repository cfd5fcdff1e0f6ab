"""Seconds of one exporter to numbered messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exporter.row_parts import Batches, split
from exporter.second import Second
from exporter.settings import CutSettings
from schemas.event_codec import EventMessage
from schemas.events import EventHeader


@dataclass(frozen=True)
class Identity:
    """Who sends: what every header of one exporter says."""

    cluster: str
    node: str
    exporter: str
    boot: str
    source: str
    capabilities: int
    clock: str
    notes: tuple[str, ...] = ()


class MessageStream:
    """Makes the messages of one exporter; losses of seconds that make none are told with the next.

    Attributes:
        shed: rows lost so far, at limits and above the rows of a second.
    """

    def __init__(self, identity: Identity, settings: CutSettings) -> None:
        self._identity = identity
        self._settings = settings
        self._sequence = 0
        self._malformed = self._lost_rows = self._lost_packets = 0
        self.shed = 0

    def lose(self, packets: int = 0, rows: int = 0) -> None:
        """Count what was lost outside a second."""
        self._lost_packets += packets
        self._lost_rows += rows

    def heartbeat(self, cut: int) -> EventMessage:
        """Return a message without rows."""
        return self._message(cut, {}, 0, 1, False)

    def messages(
        self, cut: int, second: Second, interfaces: Sequence[str], *, final: bool = False, heartbeat: bool = False
    ) -> Iterator[EventMessage]:
        """Give the messages of a second.

        Args:
            cut: its end, s since epoch.
            second: what it gave.
            interfaces: names of the numbers in interface columns.
            final: it is the last: the last message says so.
            heartbeat: give one also when there are no rows.
        """
        parts, shed = split(second.flows, second.links, second.listed, interfaces, self._settings)
        self._malformed += second.malformed
        self.lose(second.lost_packets, second.lost_rows + shed)
        if not parts and not final and not heartbeat:
            return
        parts = parts or [{}]
        for number, batches in enumerate(parts):
            yield self._message(cut, batches, number, len(parts), final and number == len(parts) - 1)

    def _message(self, cut: int, batches: Batches, part: int, parts: int, final: bool) -> EventMessage:
        me = self._identity
        header = EventHeader(
            cluster=me.cluster, node=me.node, exporter=me.exporter, boot=me.boot, sequence=self._sequence, cut=cut,
            part=part, parts=parts, source=me.source, capabilities=me.capabilities,
            clock="capture" if me.clock == "capture" else "live", lost_packets=self._lost_packets,
            lost_rows=self._lost_rows, malformed=self._malformed, final=final, notes=me.notes,
        )  # fmt: skip
        self.shed += self._lost_rows
        self._sequence += 1
        self._malformed = self._lost_rows = self._lost_packets = 0
        return EventMessage(header, batches)
