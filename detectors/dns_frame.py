"""The DNS rows of one round of ticks as columns."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.columns import Columns
from detectors.filtered_measure import passing, split_measure
from detectors.grouping import Grouping
from detectors.index import I64, positions
from detectors.name_book import NameBook
from detectors.outside import is_private

Array = npt.NDArray[Any]

# Record types that ordinary clients hardly ask for and tunnels like: they carry free bytes.
# NULL, TXT, KEY, CERT, SINK-like private range.
_FREE_FORM_TYPES = (10, 16, 25, 37, 40)
_PRIVATE_TYPES = 65280
_NXDOMAIN = 3


class DnsFrame:
    """One entry per DNS row; ``client``, ``server`` number ``addresses``; ``name``, ``zone``, ``label`` the book's.

    ``subjects`` are the rows whose client may be the subject of a detector: a client that itself answers
    queries only forwards what others ask.
    """

    def __init__(self, columns: Columns, book: NameBook, seed: int = 0) -> None:
        self.columns = columns
        self.book = book
        self.place = self.columns.place
        self.node, self.tick, self.capabilities = (
            self.columns.by_place(what)[self.place] for what in ("node", "tick", "capabilities")
        )
        self.hashes, self.addresses, (self.client, self.server) = self.columns.addresses(("client", "server"), seed)
        self.words, self.word = self.columns.words("qname")
        self.name: I64 = book.numbers(self.words)[self.word]
        self.zone: I64 = book.zone[self.name]
        self.subjects: I64 = np.arange(len(self.node))

    def __len__(self) -> int:
        return len(self.node)

    def _column(self, name: str) -> Array:
        return self.columns.values(name)

    def leave_out(self, rows: npt.NDArray[np.bool_]) -> None:
        """Take rows out of the subjects."""
        self.subjects = positions(~rows)

    def answering(self) -> tuple[I64, I64]:
        """Return (server, place) of the servers that answered, in order of their first answer in each place."""
        answered = positions(self._column("rcode") >= 0)
        first = Grouping(answered, [self.place, self.server]).first
        return self.server[first].astype(np.int64), self.place[first].astype(np.int64)

    @cached_property
    def private(self) -> npt.NDArray[np.bool_]:
        """Tell per address whether it lies in a range for private use."""
        return is_private(self.addresses)

    @cached_property
    def queries(self) -> I64:
        """Queries, counted on their first row."""
        return (self._column("query_bytes") > 0).astype(np.int64)

    @cached_property
    def query_bytes(self) -> I64:
        """Bytes of queries."""
        return self._column("query_bytes").astype(np.int64)

    @cached_property
    def answer_bytes(self) -> I64:
        """Bytes of answers."""
        return self._column("answer_bytes").astype(np.int64)

    @cached_property
    def name_information(self) -> I64:
        """Bits that names can carry in front of their zones, of queries."""
        return self.book.information[self.name] * self.queries

    @cached_property
    def free_form(self) -> I64:
        """Queries for record types that carry free bytes."""
        kind = self._column("qtype")
        free = np.isin(kind, _FREE_FORM_TYPES) | (kind >= _PRIVATE_TYPES)
        asked: I64 = np.where(free, self.queries, 0)
        return asked

    @cached_property
    def types(self) -> I64:
        """Type of record asked for."""
        return self._column("qtype").astype(np.int64)

    @cached_property
    def failures(self) -> I64:
        """Queries answered NXDOMAIN or SERVFAIL, or not at all, counted once."""
        code = self._column("rcode")
        last = self._column("answer_number") <= 1
        failed: I64 = (last & ((code == 2) | (code == 3) | (code < 0))).astype(np.int64)
        return failed

    @cached_property
    def label(self) -> I64:
        """Number of the registered label that each row asks below."""
        numbers: I64 = self.book.label[self.name]
        return numbers

    @cached_property
    def generated(self) -> I64:
        """Queries below a registered label that looks generated."""
        asked: I64 = np.where(self.book.generated[self.label], self.queries, 0)
        return asked

    @cached_property
    def generated_failures(self) -> I64:
        """Such queries that were answered NXDOMAIN; silence of a server says nothing of the name."""
        failed: I64 = np.where(self.book.generated[self.label], self.missing, 0)
        return failed

    @cached_property
    def missing(self) -> I64:
        """Queries that were answered NXDOMAIN."""
        last = self._column("answer_number") <= 1
        missing: I64 = (last & (self._column("rcode") == _NXDOMAIN)).astype(np.int64)
        return missing

    @cached_property
    def long(self) -> I64:
        """Queries below a registered label that runs on, such as words put together."""
        asked: I64 = np.where(self.book.long[self.label], self.queries, 0)
        return asked

    def measure(self, name: str) -> I64:
        """Return a measure per row by name; a filtered one is 0 for rows that its filter does not let through."""
        base, where = split_measure(name)
        values: I64 = getattr(self, base)
        return values * passing(self.columns.batches, where, "dns") if where else values

    @property
    def matched(self) -> I64:
        """1 for each row."""
        return np.ones(len(self), np.int64)
