"""The DNS rows of one round of ticks as columns, for who looks at single questions and their answers."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from detectors.dns_frame import DnsFrame
from detectors.index import I64
from detectors.mixing import U64
from detectors.names import hash_strings
from detectors.row_frame import KEPT_TEXT, Array, RowFrame
from schemas.addresses import unpack


class AnswerFrame(RowFrame):
    """One entry per DNS row (``schemas.events.DNS``).

    Attributes:
        place: number of the row's tick within the round.
        client: asker, as a number of ``address``.
        server: who answered; where no answer came, who was asked; likewise.
        name: number of the name asked, see ``names``.
    """

    def __init__(self, names: DnsFrame) -> None:
        super().__init__(names.columns)
        self._names = names
        self.place, self.node, self.tick = names.place, names.node, names.tick
        self.client, self.server, self.name = names.client, names.server, names.word

    @cached_property
    def address_hashes(self) -> U64:
        """Hash of each address, by number."""
        return self._names.hashes

    @cached_property
    def name_hashes(self) -> U64:
        """Hash of the name asked, per row."""
        hashes: U64 = self._names.book.name_hashes[self._names.name]
        return hashes

    def address(self, number: int) -> str:
        """Return an address in text."""
        return unpack(bytes(self._names.addresses[number]))

    def names(self, numbers: I64) -> list[str]:
        """Return names by number, each cut to what findings keep."""
        return _kept(self._names.words, numbers)

    def asked_below(self, *suffixes: str) -> npt.NDArray[np.bool_]:
        """Tell per row whether its name ends with one of these."""
        below = np.zeros(len(self._names.words), np.bool_)
        for suffix in suffixes:
            below |= pc.ends_with(self._names.words, suffix).to_numpy(zero_copy_only=False)
        found: npt.NDArray[np.bool_] = below[self.name]
        return found

    @cached_property
    def _records(self) -> tuple[pa.StringArray, I64]:
        return self._columns.words("record_data")

    @cached_property
    def record(self) -> I64:
        """Number of the answer record, see ``records``."""
        return self._records[1]

    @cached_property
    def record_hashes(self) -> U64:
        """Hash of the answer record, per row."""
        return hash_strings(self._records[0])[self.record]

    def records(self, numbers: I64) -> list[str]:
        """Return answer records by number, each cut to what findings keep."""
        return _kept(self._records[0], numbers)

    @property
    def client_port(self) -> Array:
        """Port of the asker."""
        return self.numbers("client_port")

    @property
    def id(self) -> Array:
        """Message id."""
        return self.numbers("id")

    @property
    def rcode(self) -> Array:
        """Answer code; -1: no answer came."""
        return self.numbers("rcode")

    @property
    def record_type(self) -> Array:
        """Type of the answer record."""
        return self.numbers("record_type")

    @property
    def unsolicited(self) -> Array:
        """No question was waiting for it."""
        return self.numbers("unsolicited")

    @cached_property
    def asks(self) -> npt.NDArray[np.bool_]:
        """True on the first row of each question."""
        first: npt.NDArray[np.bool_] = self.numbers("query_bytes") > 0
        return first

    @cached_property
    def begins(self) -> npt.NDArray[np.bool_]:
        """True on the first row of each answer."""
        first: npt.NDArray[np.bool_] = self.numbers("answer_bytes") > 0
        return first


def _kept(words: pa.StringArray, numbers: I64) -> list[str]:
    return [text.replace("\0", "")[:KEPT_TEXT] for text in words.take(pa.array(numbers)).to_pylist()]
