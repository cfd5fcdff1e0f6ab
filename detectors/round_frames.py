"""What detectors of claims look at: the rows of the ticks that close together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from detectors.answer_frame import AnswerFrame
from detectors.assembly import ClosedTick
from detectors.dns_frame import DnsFrame
from detectors.flow_rows import FlowRows
from detectors.frame import TCP, UDP, FlowFrame
from detectors.http_frame import HttpFrame
from detectors.index import I64, positions
from detectors.link_frame import LinkFrame
from detectors.minute import is_private
from detectors.outside import is_outside
from detectors.row_frame import RowBatch
from detectors.tls_frame import TlsFrame
from schemas.identity import IdentityTable


class RoundFrames:
    """The frames of one round, which holds at most one tick per node.

    A frame is made when it is first asked for; it is none where no row of its kind came.
    """

    def __init__(self, closed: Sequence[ClosedTick], names: Sequence[str], identities: IdentityTable,
                 groups: FlowFrame | None = None, questions: DnsFrame | None = None) -> None:  # fmt: skip
        self._closed = closed
        self.identities = identities
        self.names = names  # of nodes, by number
        self.groups = groups  # of flow rows, as the key spaces are made from; none where no flow row came
        self.questions = questions  # DNS rows with their subjects, who are no forwarders; none where no DNS row came

    @cached_property
    def flow(self) -> FlowRows | None:
        """Flow rows, ungrouped: a detector may compare a column of them, never walk through them."""
        batches = self._batches("flow")
        return FlowRows(batches) if batches else None

    @cached_property
    def outwards(self) -> I64:
        """Groups of TCP and UDP from ours to an address outside, which no other node reports as well; ascending."""
        frame = self.groups
        if frame is None:
            return np.zeros(0, np.int64)
        halves = frame.addresses.view(">u8").astype(np.uint64)
        far, ours = is_outside(halves[:, 0], halves[:, 1]), is_private(frame.addresses)
        ported = (frame.proto == TCP) | (frame.proto == UDP)
        return positions(far[frame.dst] & ours[frame.src] & ported & ~frame.copy)

    @cached_property
    def dns(self) -> AnswerFrame | None:
        """DNS rows."""
        batches = self._batches("dns")
        return AnswerFrame(batches) if batches else None

    @cached_property
    def link(self) -> LinkFrame | None:
        """Link rows."""
        batches = self._batches("link")
        return LinkFrame(batches) if batches else None

    @cached_property
    def tls(self) -> TlsFrame | None:
        """TLS rows."""
        batches = self._batches("tls")
        return TlsFrame(batches) if batches else None

    @cached_property
    def http(self) -> HttpFrame | None:
        """HTTP rows."""
        batches = self._batches("http")
        return HttpFrame(batches) if batches else None

    def _batches(self, kind: str) -> list[RowBatch]:
        return [
            RowBatch(c.node, c.tick, batch)
            for c in self._closed for batch in c.batches.get(kind, ()) if batch.num_rows
        ]  # fmt: skip
