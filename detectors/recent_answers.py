"""The questions and answers of the last seconds of each node, as arrays of hashes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.answer_frame import AnswerFrame
from detectors.hashing import U64, combine, mix
from detectors.index import I64, positions
from detectors.names import hash_strings

_TRUNCATED = 0x200
# Records that say where a name is: A, CNAME, AAAA. Signatures and the like differ without meaning anything else.
_PLACES = (1, 5, 28)
_ONE_PACKET = 100_000_000  # ns that a packet takes at most across a node; resolvers repeat after seconds
_ONE_LOOKUP = 5_000_000_000  # ns within which resolvers repeat a question; later its port and id may be another's
_NOERROR, _NXDOMAIN = 0, 3


@dataclass(frozen=True)
class Messages:
    """One entry per answer, or per question without one, in log order."""

    row: I64  # first row
    question: U64  # client, port, id and name
    pair: U64  # client and name
    content: U64  # what it says, in whatever order; 0: nothing that could be compared
    server: U64
    time: U64  # of the question, ns since epoch
    asked: npt.NDArray[np.bool_]  # a question belongs to it
    answered: npt.NDArray[np.bool_]
    unsolicited: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, chosen: I64) -> Messages:
        """Return some of them."""
        return Messages(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def read_messages(dns: AnswerFrame) -> Messages:
    """Put the rows of each message together."""
    answered = dns.rcode >= 0
    begins = dns.begins | ~answered
    begins[:1] = True
    first = positions(begins)
    number, names = dns.qname
    name = _hash(names)[number]
    high, low = dns.client
    client = combine(high, low)
    pair = combine(client, name)
    ends = (dns.client_port.astype(np.uint64) << np.uint64(16)) | dns.id.astype(np.uint64)
    server = combine(*dns.server)
    return Messages(
        first, combine(pair, ends)[first], pair[first], _contents(dns, first), server[first],
        dns.numbers("time")[first].astype(np.uint64),
        np.logical_or.reduceat(dns.asks, first), answered[first], dns.unsolicited[first].astype(np.bool_),
    )  # fmt: skip


def _hash(words: list[str]) -> U64:
    return hash_strings(pa.array(words, pa.string()))


def _contents(dns: AnswerFrame, first: I64) -> U64:
    number, words = dns.record_data
    kind = dns.record_type.astype(np.uint64)
    record = mix(_hash(words)[number] ^ mix(kind))
    record[~np.isin(dns.record_type, _PLACES)] = 0
    total = np.add.reduceat(record, first)
    code = dns.rcode[first]
    comparable = np.isin(code, (_NOERROR, _NXDOMAIN)) & (dns.numbers("flags")[first] & _TRUNCATED == 0)
    # An answer without any place (signatures, text) cannot be compared, except that the name does not exist.
    comparable &= (total != 0) | (code == _NXDOMAIN)
    said: U64 = np.where(comparable, mix(total ^ mix(code.astype(np.uint64))) | np.uint64(1), np.uint64(0))
    return said


@dataclass
class _Node:
    """Entries of one node, the oldest first."""

    tick: I64 = field(default_factory=lambda: np.zeros(0, np.int64))
    table: U64 = field(default_factory=lambda: np.zeros((0, 5), np.uint64))  # question, pair, content, server, time
    open_: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))


class RecentAnswers:
    """Remembers for some seconds who asked what and what was answered first; bounded per node.

    Attributes:
        shed: entries dropped before their time, by node.
    """

    def __init__(self, seconds: int, capacity: int) -> None:
        self._seconds, self._capacity = seconds, capacity
        self._nodes: dict[int, _Node] = {}
        self.shed: dict[int, int] = {}

    def add(self, node: int, tick: int, messages: Messages) -> None:
        """Take in one tick's questions and the first answers to them."""
        kept = positions(messages.asked)
        entries = self._nodes.setdefault(node, _Node())
        m = messages.take(kept)
        fresh = np.stack([m.question, m.pair, m.content, m.server, m.time], axis=1)
        alive = positions(entries.tick > tick - self._seconds)
        ticks = np.concatenate([entries.tick[alive], np.full(len(m), tick, np.int64)])
        table = np.concatenate([entries.table[alive], fresh])
        open_ = np.concatenate([entries.open_[alive], ~m.answered])
        over = max(0, len(ticks) - self._capacity)
        if over:
            self.shed[node] = self.shed.get(node, 0) + over
        self._nodes[node] = _Node(ticks[over:], table[over:], open_[over:])

    def again(self, node: int, tick: int, messages: Messages) -> I64:
        """Return which of a tick's answers, added before, are not the first ones to their question."""
        entries = self._nodes[node]
        second = messages.answered & ~messages.asked & ~messages.unsolicited
        # A question seen twice on its way begins anew; both times lie within this second and the one before.
        lately = positions((entries.tick >= tick - 1) & ~entries.open_)
        known, counts = np.unique(entries.table[lately, 0], return_counts=True)
        second |= messages.asked & messages.answered & np.isin(messages.question, known[counts > 1])
        return positions(second & (messages.content != 0))

    def compare(self, node: int, message: Messages, number: int) -> tuple[bool, bool]:
        """Tell whether an answer contradicts an earlier one to the same question, and comes from somebody else.

        Who asks again, or asks two servers at once, is owed two answers: they contradict nothing. The same
        packet seen twice on its way, to one server at nearly one time, is one question.
        """
        entries = self._nodes[node]
        asked = entries.table[:, 4].astype(np.int64)
        near = np.abs(asked - int(message.time[number])) <= _ONE_LOOKUP
        same = positions((entries.table[:, 0] == message.question[number]) & near)
        first = same[~entries.open_[same]]
        said = entries.table[first, 2]
        if not len(first) or not ((said != 0) & (said != message.content[number])).any():
            return False, False
        stranger = entries.table[same, 3] != message.server[number]
        if len(same) > 1 and (stranger.any() or int(asked[same].max() - asked[same].min()) >= _ONE_PACKET):
            return False, False
        return True, bool(stranger.any())

    def asked(self, node: int, column: int, hashes: U64) -> npt.NDArray[np.bool_]:
        """Tell which questions (column 0) or pairs of client and name (column 1) were asked lately."""
        entries = self._nodes.get(node)
        if entries is None:
            return np.zeros(len(hashes), np.bool_)
        found: npt.NDArray[np.bool_] = np.isin(hashes, entries.table[:, column])
        return found

    def snapshot(self) -> dict[str, Any]:
        """Return all entries as arrays."""
        nodes = sorted(self._nodes)
        sizes = [len(self._nodes[n].tick) for n in nodes]
        every = [self._nodes[n] for n in nodes] or [_Node()]
        return {
            "nodes": np.array([[n, s] for n, s in zip(nodes, sizes, strict=True)], np.int64).reshape(-1, 2),
            "tick": np.concatenate([e.tick for e in every]),
            "table": np.concatenate([e.table for e in every]),
            "open": np.concatenate([e.open_ for e in every]),
            "shed": np.array(sorted(self.shed.items()), np.int64).reshape(-1, 2),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take in what ``snapshot`` gave."""
        self.shed = {int(node): int(count) for node, count in state["shed"]}
        self._nodes = {}
        at = 0
        for node, size in state["nodes"].tolist():
            part = slice(at, at + size)
            self._nodes[node] = _Node(state["tick"][part], state["table"][part], state["open"][part])
            at += size
