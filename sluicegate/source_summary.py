"""Who sent event messages, what they can see, what they lost, and how their clocks ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.event_codec import EventMessage
from schemas.events import Capability, EventHeader

# A node-second normally has one message; a longer quiet is worth a line.
GAP_SECONDS = 10
_MAX_SOURCES = 4096


@dataclass
class _Source:
    header: EventHeader
    first_cut: int
    last_cut: int
    messages: int = 0
    backwards: int = 0
    gaps: int = 0
    longest_gap: int = 0
    missing: int = 0
    next_sequence: int = 0
    lost_packets: int = 0
    lost_rows: int = 0
    malformed: int = 0
    final: bool = False


class SourceSummary:
    """Takes message headers, at most ``_MAX_SOURCES`` different senders."""

    def __init__(self) -> None:
        self._sources: dict[tuple[str, str, str, str], _Source] = {}
        self.untold = 0

    def add(self, message: EventMessage) -> None:
        """Take one message."""
        header = message.header
        key = (header.cluster, header.node, header.exporter, header.boot)
        source = self._sources.get(key)
        if source is None:
            if len(self._sources) >= _MAX_SOURCES:
                self.untold += 1
                return
            source = self._sources[key] = _Source(header, header.cut, header.cut, next_sequence=header.sequence)
        self._count(source, header)

    @staticmethod
    def _count(source: _Source, header: EventHeader) -> None:
        step = header.cut - source.last_cut
        source.backwards += step < 0
        source.gaps += step > GAP_SECONDS
        source.longest_gap = max(source.longest_gap, step)
        source.missing += max(0, header.sequence - source.next_sequence)
        source.next_sequence = max(source.next_sequence, header.sequence + 1)
        source.last_cut = max(source.last_cut, header.cut)
        source.messages += 1
        source.lost_packets += header.lost_packets
        source.lost_rows += header.lost_rows
        source.malformed += header.malformed
        source.final = header.final

    def result(self) -> list[dict[str, Any]]:
        """Return one mapping per sender, by cluster, node, exporter and boot."""
        return [_described(source) for _, source in sorted(self._sources.items())]


def _described(source: _Source) -> dict[str, Any]:
    header = source.header
    able = [c for c in Capability if header.capabilities & c]
    return {
        "cluster": header.cluster, "node": header.node, "exporter": header.exporter, "source": header.source,
        "clock": header.clock, "sampling": header.sampling, "messages": source.messages,
        "first_cut": source.first_cut, "last_cut": source.last_cut, "backwards": source.backwards,
        "gaps": source.gaps, "longest_gap_s": source.longest_gap, "missing_messages": source.missing,
        "lost_packets": source.lost_packets, "lost_rows": source.lost_rows, "malformed": source.malformed,
        "ended": source.final, "sees": [str(c.name).lower() for c in able],
        "blind_to": [str(c.name).lower() for c in Capability if c not in able],
    }  # fmt: skip
