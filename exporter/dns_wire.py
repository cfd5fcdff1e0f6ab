"""One DNS message: header, first question, EDNS size, answer records; everything bounded.

Wire form: RFC 1035 section 4.1, RFC 6891 section 6.1.2 (EDNS). Names are read by dnspython, which
allows compression pointers only backwards, so no message can make it loop.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

import dns.exception
import dns.name
import dns.wirebase

from exporter.wire_text import NAME, text
from schemas.events import MAX_TEXT

HEADER_BYTES = 12
ANSWER_FLAG = 0x8000
_HEADER = struct.Struct(">HHHHHH")
_RECORD = struct.Struct(">HHIH")
_POINTER = 0xC0
_OPT = 41
_A, _NS, _CNAME, _SOA, _PTR, _MX, _TXT, _AAAA, _SRV, _DNAME = 1, 2, 5, 6, 12, 15, 16, 28, 33, 39
# Bytes of fixed fields before the name in record types whose data ends in one.
_NAME_AT = {_NS: 0, _CNAME: 0, _SOA: 0, _PTR: 0, _MX: 2, _SRV: 6, _DNAME: 0}
# Records looked through for the EDNS record of a question; real questions have one or two.
_MAX_SKIPPED = 16


class MalformedDns(ValueError):
    """Bytes that are no DNS message."""


@dataclass(frozen=True)
class Record:
    """One answer record: type, TTL in s, data as text of at most ``MAX_TEXT`` characters."""

    type: int
    ttl: int
    data: str


@dataclass(frozen=True)
class DnsMessage:
    """What rows need of a message.

    Attributes:
        id: message id.
        flags: the 16 header flag bits.
        qname: lower case, no final dot, other bytes as ``\\DDD``.
        qtype: type asked.
        edns_size: of a question; 0 without EDNS.
        records: answer records by the header.
        answers: those that could be read, up to the limit asked for.
        damaged: the answer section could not be read to its end.
    """

    id: int
    flags: int
    qname: str
    qtype: int
    edns_size: int
    records: int
    answers: tuple[Record, ...]
    damaged: bool

    @property
    def is_answer(self) -> bool:
        """The QR bit."""
        return bool(self.flags & ANSWER_FLAG)


class DnsReader:
    """Reads messages; remembers the text of names asked lately."""

    def __init__(self, most_answers: int) -> None:
        self._most = most_answers
        self._names: dict[bytes, str] = {}

    def read(self, wire: bytes) -> DnsMessage:
        """Read a message of which at least the question is there.

        Raises:
            MalformedDns: header or question cannot be read.
        """
        if len(wire) < HEADER_BYTES + 5:
            raise MalformedDns
        number, flags, questions, answers, authorities, additional = _HEADER.unpack_from(wire)
        if questions == 0:
            raise MalformedDns
        parser = dns.wirebase.Parser(wire, HEADER_BYTES)
        try:
            qname = self._question_name(wire, parser)
            qtype, _ = parser.get_struct("!HH")
            for _ in range(min(questions, 4) - 1):
                dns.name.from_wire_parser(parser)
                parser.get_struct("!HH")
        except (dns.exception.DNSException, ValueError):
            raise MalformedDns from None
        size, damaged = 0, False
        found: tuple[Record, ...] = ()
        if flags & ANSWER_FLAG:
            found, damaged = _answers(wire, parser, min(answers, self._most))
        else:
            size = _edns_size(parser, answers + authorities + additional)
        return DnsMessage(number, flags, qname, qtype, size, answers, found, damaged)

    def _question_name(self, wire: bytes, parser: dns.wirebase.Parser) -> str:
        end = wire.find(b"\0", HEADER_BYTES) + 1
        raw = wire[HEADER_BYTES:end]
        known = self._names.get(raw)
        if known is not None:
            parser.seek(end)
            return known
        name = dns.name.from_wire_parser(parser)
        shown = _name_text(name)
        # Only names without pointers mean the same in every message.
        if parser.current == end and len(raw) == sum(len(label) + 1 for label in name.labels):
            if len(self._names) >= 4096:
                self._names.clear()
            self._names[raw] = shown
        return shown


def _name_text(name: dns.name.Name) -> str:
    labels = name.labels[:-1] if name.labels and name.labels[-1] == b"" else name.labels
    return ".".join("".join([NAME[byte] for byte in label]) for label in labels)[:MAX_TEXT]


def _answers(wire: bytes, parser: dns.wirebase.Parser, count: int) -> tuple[tuple[Record, ...], bool]:
    found: list[Record] = []
    position = parser.current
    try:
        for _ in range(count):
            if wire[position] >= _POINTER:  # nearly always: the name asked, again
                position += 2
            else:
                parser.seek(position)
                dns.name.from_wire_parser(parser)
                position = parser.current
            kind, _, ttl, length = _RECORD.unpack_from(wire, position)
            position += _RECORD.size
            if position + length > len(wire):
                return tuple(found), True
            parser.seek(position)
            found.append(Record(kind, ttl, _data_text(wire[position : position + length], parser, kind)))
            position += length
    except (dns.exception.DNSException, ValueError, IndexError, struct.error):
        return tuple(found), True
    return tuple(found), False


def _data_text(data: bytes, parser: dns.wirebase.Parser, kind: int) -> str:
    """Return record data as text; names in it may point into the rest of the message."""
    if kind == _A and len(data) == 4:
        return socket.inet_ntop(socket.AF_INET, data)
    if kind == _AAAA and len(data) == 16:
        return socket.inet_ntop(socket.AF_INET6, data)
    if kind in _NAME_AT:
        with parser.restrict_to(len(data)):
            parser.get_bytes(_NAME_AT[kind])
            name = dns.name.from_wire_parser(parser)
            parser.get_remaining()
        return _name_text(name)
    if kind == _TXT:
        return text(_strings(data))
    # RFC 3597 section 5: the generic form of unknown data.
    return f"\\# {len(data)} {data[: MAX_TEXT // 2].hex()}"[:MAX_TEXT]


def _strings(data: bytes) -> bytes:
    """Join the character strings of a TXT record."""
    parts, position = [], 0
    while position < len(data):
        length = data[position]
        parts.append(data[position + 1 : position + 1 + length])
        position += 1 + length
    return b"".join(parts)


def _edns_size(parser: dns.wirebase.Parser, records: int) -> int:
    try:
        for _ in range(min(records, _MAX_SKIPPED)):
            dns.name.from_wire_parser(parser)
            kind, size, _, length = parser.get_struct("!HHIH")
            if kind == _OPT:
                return int(size)
            parser.get_bytes(length)
    except (dns.exception.DNSException, ValueError):
        return 0
    return 0
