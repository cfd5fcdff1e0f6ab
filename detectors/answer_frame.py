"""The DNS rows of one round of ticks as columns, for who looks at single questions and their answers."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from detectors.index import I64
from detectors.row_frame import Array, RowFrame, Words


class AnswerFrame(RowFrame):
    """One entry per DNS row (``schemas.events.DNS``)."""

    @cached_property
    def client(self) -> Words:
        """Asker."""
        return self.addresses("client")

    @cached_property
    def server(self) -> Words:
        """Who answered; where no answer came, who was asked."""
        return self.addresses("server")

    @cached_property
    def client_port(self) -> Array:
        """Port of the asker."""
        return self.numbers("client_port")

    @cached_property
    def id(self) -> Array:
        """Message id."""
        return self.numbers("id")

    @cached_property
    def qtype(self) -> Array:
        """Type asked."""
        return self.numbers("qtype")

    @cached_property
    def rcode(self) -> I64:
        """Answer code; -1: no answer came."""
        return self.numbers("rcode").astype(np.int64)

    @cached_property
    def qname(self) -> tuple[I64, list[str]]:
        """Name asked."""
        return self.texts("qname")

    @cached_property
    def record_data(self) -> tuple[I64, list[str]]:
        """Answer record."""
        return self.texts("record_data")

    @cached_property
    def record_type(self) -> Array:
        """Type of the answer record."""
        return self.numbers("record_type")

    @cached_property
    def unsolicited(self) -> Array:
        """No question was waiting for it."""
        return self.numbers("unsolicited")

    @cached_property
    def asks(self) -> Array:
        """True on the first row of each question."""
        return self.numbers("query_bytes") > 0

    @cached_property
    def begins(self) -> Array:
        """True on the first row of each answer."""
        return self.numbers("answer_bytes") > 0
