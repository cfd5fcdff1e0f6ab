"""DNS rows: every question with every answer to it, or with none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from exporter.chunks import I64
from exporter.dns_streams import DnsStreams
from exporter.dns_wire import DnsMessage, DnsReader, MalformedDns, Record
from exporter.network_layer import Bool
from exporter.packets import FIN, RST, TCP, UDP, Packets
from exporter.settings import DnsSettings

_SECOND = 1_000_000_000
_NO_RECORD = Record(0, 0, "")

# Client address and port, message id, name.
_Key = tuple[bytes, int, int, str]
Row = tuple[Any, ...]


@dataclass
class _Asked:
    """A question that waits; ``answers`` counts the rows of its answers."""

    time: int
    deadline: int
    server: bytes
    transport: int
    message: DnsMessage
    size: int
    answers: int = 0


class DnsPairs:
    """Pairs questions and answers by client, port, id and name.

    Call ``add`` for one second's packets, then ``close`` with its cut.

    Attributes:
        malformed: messages that could not be read, since the last ``close``.
        cut_short: messages of which the capture kept only the beginning, so far; what is there is used.
    """

    def __init__(self, settings: DnsSettings) -> None:
        self._settings = settings
        self._ports = np.array(settings.ports, dtype=np.int64)
        self._reader = DnsReader(settings.answers_per_message)
        self._streams = DnsStreams(settings.streams)
        self._waiting: dict[_Key, _Asked] = {}
        self._deadline = 0
        self._rows: list[Row] = []
        self.malformed = 0
        self.cut_short = 0

    @property
    def next_due(self) -> int | None:
        """The next cut at which a question times out; None while none waits."""
        return next(iter(self._waiting.values())).deadline if self._waiting else None

    def select(self, packets: Packets) -> I64:
        """Return the positions of packets that carry DNS payload, or end a TCP connection that did."""
        net = packets.net
        served: Bool = np.isin(packets.src_port, self._ports) | np.isin(packets.dst_port, self._ports)
        udp = (net.proto == UDP) & (packets.payload > 0)
        tcp = (net.proto == TCP) & ((packets.payload > 0) | (packets.flags & (FIN | RST) != 0))
        return np.flatnonzero(served & ~net.later & (udp | tcp))

    def add(self, packets: Packets, positions: I64) -> None:
        """Take in packets chosen by ``select``, in order."""
        net, at = packets.net, positions
        halves = np.stack([net.src_high[at], net.src_low[at], net.dst_high[at], net.dst_low[at]], axis=1)
        raw = halves.astype(">u8").tobytes()
        starts = packets.payload_at[at]
        columns = (
            packets.times[at], net.proto[at], packets.src_port[at], packets.dst_port[at], packets.sequence[at],
            packets.flags[at], starts, starts + packets.payload_captured[at], packets.payload[at],
        )  # fmt: skip
        buffer = packets.buffer
        for number, row in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            time, proto, source, target, sequence, flags, start, stop, size = row
            src, dst = raw[number * 32 : number * 32 + 16], raw[number * 32 + 16 : number * 32 + 32]
            wire = buffer[start:stop].tobytes()
            if proto == UDP:
                self._message(time, UDP, src, source, dst, target, wire, size)
                continue
            key = (src, source, dst, target)
            if size and len(wire) == size:
                for message in self._streams.feed(key, sequence, wire):
                    self._message(time, TCP, src, source, dst, target, message, len(message))
            elif size:
                self.cut_short += 1
                self._streams.forget(key)
            if flags & (FIN | RST):
                self._streams.forget(key)

    def _message(
        self, time: int, transport: int, src: bytes, source: int, dst: bytes, target: int, wire: bytes, size: int
    ) -> None:
        whole = len(wire) >= size
        self.cut_short += not whole
        try:
            message = self._reader.read(wire)
        except MalformedDns:
            self.malformed += whole
            return
        self.malformed += whole and message.damaged
        if message.is_answer:
            self._answer((dst, target, message.id, message.qname), time, transport, src, message, size)
        else:
            self._question((src, source, message.id, message.qname), time, transport, dst, message, size)

    def _question(self, key: _Key, time: int, transport: int, server: bytes, message: DnsMessage, size: int) -> None:
        before = self._waiting.pop(key, None)
        if before is not None:
            self._unanswered(key, before)
        elif len(self._waiting) >= self._settings.pending:
            oldest = next(iter(self._waiting))
            self._unanswered(oldest, self._waiting.pop(oldest))
        # Never before an earlier question's, so that the first waiting is always the first due.
        self._deadline = max(self._deadline, -(-time // _SECOND) + self._settings.answer_seconds)
        self._waiting[key] = _Asked(time, self._deadline, server, transport, message, size)

    def _answer(self, key: _Key, time: int, transport: int, server: bytes, message: DnsMessage, size: int) -> None:
        asked = self._waiting.get(key)
        if asked is None:
            unsolicited = _Asked(time, 0, server, transport, message, 0)
            self._add_answers(key, unsolicited, server, message, size, True, -1)
        else:
            self._add_answers(key, asked, server, message, size, False, max(0, time - asked.time))

    def _add_answers(
        self, key: _Key, asked: _Asked, server: bytes, message: DnsMessage, size: int, unsolicited: bool, latency: int
    ) -> None:
        for number, record in enumerate(message.answers or (_NO_RECORD,)):
            first_of_query = asked.answers == 0 and not unsolicited
            asked.answers = min(asked.answers + 1, 65_535)
            self._rows.append((
                asked.time, key[0], key[1], server, asked.transport, message.id, message.qname, message.qtype,
                asked.message.edns_size, message.flags & 15, message.flags, asked.answers, record.type, record.data,
                record.ttl, message.records, unsolicited, asked.size if first_of_query else 0,
                size if number == 0 else 0, latency,
            ))  # fmt: skip

    def _unanswered(self, key: _Key, asked: _Asked) -> None:
        if asked.answers:
            return
        message = asked.message
        self._rows.append((
            asked.time, key[0], key[1], asked.server, asked.transport, message.id, message.qname, message.qtype,
            message.edns_size, -1, message.flags, 0, 0, "", 0, 0, False, asked.size, 0, -1,
        ))  # fmt: skip

    def close(self, cut: int, final: bool = False) -> list[Row]:
        """End a second; returns its rows in the order of the schema's columns."""
        while self._waiting:
            key = next(iter(self._waiting))
            if self._waiting[key].deadline > cut and not final:
                break
            self._unanswered(key, self._waiting.pop(key))
        rows, self._rows = self._rows, []
        return rows
