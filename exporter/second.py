"""What one second of a node gave, before it becomes messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from exporter.flow_rows import RowBlock
from exporter.link_block import LinkBlock
from exporter.tls_exchange import Row


@dataclass
class Second:
    """Rows and counts.

    Attributes:
        flows: flow rows.
        links: blocks of link rows.
        listed: rows of other kinds, values in the order of the schema's columns.
        lost_packets: dropped before they were read.
        lost_rows: rows shed at a limit.
        malformed: packets or messages that could not be read.
    """

    flows: RowBlock = field(default_factory=dict)
    links: Sequence[LinkBlock] = ()
    listed: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    lost_packets: int = 0
    lost_rows: int = 0
    malformed: int = 0
