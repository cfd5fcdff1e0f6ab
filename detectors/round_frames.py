"""What detectors look at: the rows of the ticks that close together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from detectors.address_names import told_addresses
from detectors.answer_frame import AnswerFrame
from detectors.assembly import ClosedTick
from detectors.columns import Columns, TickBatch
from detectors.dns_frame import DnsFrame
from detectors.flow_rows import FlowRows
from detectors.frame import TCP, UDP, FlowFrame
from detectors.http_frame import HttpFrame
from detectors.index import I64, positions
from detectors.link_frame import LinkFrame
from detectors.mixing import U64
from detectors.name_book import NameBook
from detectors.tls_frame import TlsFrame
from schemas.identity import IdentityTable

_NO_ROWS, _NO_HASHES = np.zeros(0, np.int64), np.zeros(0, np.uint64)


class RoundFrames:
    """The frames of one round, which holds at most one tick per node.

    A frame is made when it is first asked for; it is none where no row of its kind came. All frames of a kind read
    the same columns, each once.
    """

    def __init__(self, closed: Sequence[ClosedTick], names: Sequence[str], identities: IdentityTable,
                 book: NameBook, seed: int = 0) -> None:  # fmt: skip
        self._closed = closed
        self._book, self._seed = book, seed
        self.identities = identities
        self.names = names  # of nodes, by number

    @cached_property
    def groups(self) -> FlowFrame | None:
        """Flow rows, grouped, as the key spaces are made from."""
        columns = self._columns("flow")
        return FlowFrame(columns, self._seed) if columns is not None else None

    @cached_property
    def flow(self) -> FlowRows | None:
        """Flow rows, ungrouped: a detector may compare a column of them, never walk through them."""
        return FlowRows(self.groups) if self.groups is not None else None

    @cached_property
    def questions(self) -> DnsFrame | None:
        """DNS rows by name, as the key spaces are made from, with their subjects, who are no forwarders."""
        columns = self._columns("dns")
        return DnsFrame(columns, self._book, self._seed) if columns is not None else None

    @cached_property
    def outwards(self) -> I64:
        """Groups of TCP and UDP from ours to an address outside, which no other node reports as well; ascending."""
        frame = self.groups
        if frame is None:
            return _NO_ROWS
        ported = (frame.proto == TCP) | (frame.proto == UDP)
        return positions(frame.outside[frame.dst] & frame.private[frame.src] & ported & ~frame.copy)

    @cached_property
    def told(self) -> tuple[I64, U64]:
        """Rows of DNS answers that tell an address, and the hash of its text."""
        return told_addresses(self.questions) if self.questions is not None else (_NO_ROWS, _NO_HASHES)

    @cached_property
    def dns(self) -> AnswerFrame | None:
        """DNS rows by question and answer."""
        return AnswerFrame(self.questions) if self.questions is not None else None

    @cached_property
    def link(self) -> LinkFrame | None:
        """Link rows."""
        columns = self._columns("link")
        return LinkFrame(columns) if columns is not None else None

    @cached_property
    def tls(self) -> TlsFrame | None:
        """TLS rows."""
        columns = self._columns("tls")
        return TlsFrame(columns) if columns is not None else None

    @cached_property
    def http(self) -> HttpFrame | None:
        """HTTP rows."""
        columns = self._columns("http")
        return HttpFrame(columns) if columns is not None else None

    def _columns(self, kind: str) -> Columns | None:
        batches = [
            TickBatch(place, c.node, c.tick, c.capabilities, batch)
            for place, c in enumerate(self._closed) for batch in c.batches.get(kind, ()) if batch.num_rows
        ]  # fmt: skip
        return Columns(batches) if batches else None
