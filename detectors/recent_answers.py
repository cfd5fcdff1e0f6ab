"""The questions and answers of the last seconds of each node, as arrays of hashes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.answer_frame import AnswerFrame
from detectors.frame import scoped
from detectors.grouping import Grouping
from detectors.hashing import combine, mix
from detectors.index import I64, positions
from detectors.mixing import U64

_TRUNCATED = 0x200
# Records that say where a name is: A, CNAME, AAAA. Signatures and the like differ without meaning anything else.
_PLACES = (1, 5, 28)
_ONE_PACKET = 100_000_000  # ns that a packet takes at most across a node; resolvers repeat after seconds
_ONE_LOOKUP = 5_000_000_000  # ns within which resolvers repeat a question; later its port and id may be another's
_NOERROR, _NXDOMAIN = 0, 3


@dataclass(frozen=True)
class Messages:
    """One entry per answer, or per question without one, in log order; those of one node's tick stand together."""

    row: I64  # first row
    place: I64  # of its tick within the round
    question: U64  # node, client, port, id and name
    pair: U64  # node, client and name
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
    begins[1:] |= dns.place[1:] != dns.place[:-1]
    begins[:1] = True
    first = positions(begins)
    client, server = dns.address_hashes[dns.client[first]], dns.address_hashes[dns.server[first]]
    pair = combine(scoped(dns.node[first], client), dns.name_hashes[first])
    ends = (dns.client_port[first].astype(np.uint64) << np.uint64(16)) | dns.id[first].astype(np.uint64)
    return Messages(
        first, dns.place[first].astype(np.int64), combine(pair, ends), pair, _contents(dns, first), server,
        dns.numbers("time")[first].astype(np.uint64),
        np.logical_or.reduceat(dns.asks, first), answered[first], dns.unsolicited[first].astype(np.bool_),
    )  # fmt: skip


def _contents(dns: AnswerFrame, first: I64) -> U64:
    kind = dns.record_type.astype(np.uint64)
    record = mix(dns.record_hashes ^ mix(kind))
    record[~np.isin(dns.record_type, _PLACES)] = 0
    total = np.add.reduceat(record, first)
    code = dns.rcode[first]
    comparable = np.isin(code, (_NOERROR, _NXDOMAIN)) & (dns.numbers("flags")[first] & _TRUNCATED == 0)
    # An answer without any place (signatures, text) cannot be compared, except that the name does not exist.
    comparable &= (total != 0) | (code == _NXDOMAIN)
    said: U64 = np.where(comparable, mix(total ^ mix(code.astype(np.uint64))) | np.uint64(1), np.uint64(0))
    return said


@dataclass(frozen=True)
class _Second:
    """What one node's tick held."""

    tick: int
    table: U64  # question, pair, content, server, time; shape (n, 5)
    open_: npt.NDArray[np.bool_]  # no answer came

    def closed(self) -> U64:
        """Return the questions that were answered."""
        questions: U64 = self.table[~self.open_, 0]
        return questions


class RecentAnswers:
    """Remembers for some seconds who asked what and what was answered first; bounded per node.

    Attributes:
        shed: entries dropped before their time, by node.
    """

    def __init__(self, seconds: int, capacity: int) -> None:
        self._seconds, self._capacity = seconds, capacity
        self._nodes: dict[int, deque[_Second]] = {}
        self._held: dict[int, int] = {}  # entries by node
        self.shed: dict[int, int] = {}

    def add(self, dns: AnswerFrame, messages: Messages) -> None:
        """Take in a round's questions and the first answers to them."""
        m = messages.take(positions(messages.asked))
        table = np.stack([m.question, m.pair, m.content, m.server, m.time], axis=1)
        for node, tick, part in by_tick(dns, m):
            # Copies: a view would keep what all nodes of the round had for as long as one of them is remembered.
            self._add(node, _Second(tick, table[part].copy(), ~m.answered[part]))

    def _add(self, node: int, second: _Second) -> None:
        seconds = self._nodes.setdefault(node, deque())
        held = self._held.get(node, 0)
        while seconds and seconds[0].tick <= second.tick - self._seconds:
            held -= len(seconds.popleft().table)
        over = max(0, len(second.table) - self._capacity)
        if over:
            second = _Second(second.tick, second.table[over:], second.open_[over:])
        seconds.append(second)
        held += len(second.table)
        while held > self._capacity:
            gone = len(seconds.popleft().table)
            held, over = held - gone, over + gone
        if over:
            self.shed[node] = self.shed.get(node, 0) + over
        self._held[node] = held

    def _table(self, node: int, since: int = 0) -> tuple[U64, npt.NDArray[np.bool_]]:
        seconds = [s for s in self._nodes.get(node, ()) if s.tick >= since]
        if not seconds:
            return np.zeros((0, 5), np.uint64), np.zeros(0, np.bool_)
        return np.concatenate([s.table for s in seconds]), np.concatenate([s.open_ for s in seconds])

    def again(self, dns: AnswerFrame, messages: Messages) -> I64:
        """Return which of a round's answers, added before, are not the first ones to their question."""
        second = messages.answered & ~messages.asked & ~messages.unsolicited
        first = positions(messages.asked & messages.answered)
        # A question seen twice on its way begins anew; both times lie within this second and the one before.
        before = [s.closed() for node, tick, _ in by_tick(dns, messages) for s in self._before(node, tick)]
        asked = Grouping.equal(np.concatenate([messages.question[first], *before]))
        second[first] |= asked.sizes()[asked.number[: len(first)]] > 1
        return positions(second & (messages.content != 0))

    def _before(self, node: int, tick: int) -> Iterator[_Second]:
        """Return the second before a tick that was added."""
        for second in reversed(self._nodes.get(node, ())):
            if second.tick < tick:
                if second.tick == tick - 1:
                    yield second
                return

    def contradictions(self, node: int, tick: int, answers: Messages) -> list[tuple[int, bool]]:
        """Return which answers contradict an earlier one to the same question, and whether they are a stranger's.

        Who asks again, or asks two servers at once, is owed two answers: they contradict nothing. The same
        packet seen twice on its way, to one server at nearly one time, is one question.
        """
        # What was asked within one lookup was told within two.
        table, open_ = self._table(node, tick - 2 * _ONE_LOOKUP // 1_000_000_000)
        related = positions(np.isin(table[:, 0], answers.question))
        table, open_ = table[related], open_[related]
        found = []
        for number in range(len(answers)):
            apart = np.abs(table[:, 4].astype(np.int64) - int(answers.time[number]))
            same = positions((table[:, 0] == answers.question[number]) & (apart <= _ONE_LOOKUP))
            said = table[same[~open_[same]], 2]
            if not ((said != 0) & (said != answers.content[number])).any():
                continue
            stranger = bool((table[same, 3] != answers.server[number]).any())
            times = table[same, 4].astype(np.int64)
            if len(same) == 1 or not (stranger or int(times.max() - times.min()) >= _ONE_PACKET):
                found.append((number, stranger))
        return found

    def asked(self, node: int, column: int, hashes: U64) -> npt.NDArray[np.bool_]:
        """Tell which questions (column 0) or pairs of client and name (column 1) were asked lately."""
        table, _ = self._table(node)
        found: npt.NDArray[np.bool_] = np.isin(hashes, table[:, column])
        return found

    def snapshot(self) -> dict[str, Any]:
        """Return all entries as arrays."""
        every = [(node, s) for node in sorted(self._nodes) for s in self._nodes[node]]
        return {
            "seconds": np.array([[n, s.tick, len(s.table)] for n, s in every], np.int64).reshape(-1, 3),
            "table": np.concatenate([np.zeros((0, 5), np.uint64), *(s.table for _, s in every)]),
            "open": np.concatenate([np.zeros(0, np.bool_), *(s.open_ for _, s in every)]),
            "shed": np.array(sorted(self.shed.items()), np.int64).reshape(-1, 2),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take in what ``snapshot`` gave."""
        self.shed = {int(node): int(count) for node, count in state["shed"]}
        self._nodes, self._held = {}, {}
        at = 0
        for node, tick, size in state["seconds"].tolist():
            part = slice(at, at + size)
            self._nodes.setdefault(node, deque()).append(_Second(tick, state["table"][part], state["open"][part]))
            self._held[node] = self._held.get(node, 0) + size
            at += size


def by_tick(dns: AnswerFrame, messages: Messages) -> Iterator[tuple[int, int, slice]]:
    """Return (node, tick, where its messages stand) of each tick that has any."""
    if not len(messages):
        return
    edges = [0, *(positions(np.diff(messages.place) != 0) + 1).tolist(), len(messages)]
    heads = messages.row[edges[:-1]]
    ends = pairwise(edges)
    for node, tick, (first, last) in zip(dns.node[heads].tolist(), dns.tick[heads].tolist(), ends, strict=True):
        yield node, tick, slice(first, last)
