"""Zeek's dns.log, tab-separated or JSON.

Fields: https://docs.zeek.org/en/master/scripts/base/protocols/dns/main.zeek.html.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from exporter.record_cutter import RecordBlock
from exporter.sources.byte_source import ByteSource
from exporter.sources.dns_records import DnsLookup, lookup_rows
from exporter.sources.dns_text import name_text
from exporter.sources.log_reader import Head, LogReader, Reading
from exporter.sources.text_columns import Bool, TextColumns
from exporter.sources.zeek_log import SET_SEPARATOR, zeek_columns, zeek_fields
from schemas.events import Capability

_BITS = {"AA": 0x0400, "TC": 0x0200, "RD": 0x0100, "RA": 0x0080}
_WANTED = (
    "ts", "id.orig_h", "id.orig_p", "id.resp_h", "proto", "trans_id", "rtt", "query", "qtype", "rcode", *_BITS,
    "answers", "TTLs",
)  # fmt: skip
_MOST_TTL = (1 << 32) - 1


class ZeekDns(LogReader):
    """Questions with their answers."""

    id = "zeek_dns"
    title = "Zeek dns.log"

    @classmethod
    def recognises(cls, head: Head) -> bool:
        """Endpoints and a question."""
        fields = zeek_fields(head)
        return "query" in fields and bool(fields & {"qtype", "qtype_name", "trans_id"})

    @property
    def capabilities(self) -> Capability:
        """By the fields that the log has."""
        fields = zeek_fields(self.head)
        able = Capability.DNS | (Capability.DNS_ANSWERS if fields & {"rcode", "answers"} else Capability(0))
        return able | (Capability.DNS_LATENCY if "rtt" in fields and "rcode" in fields else Capability(0))

    @property
    def notes(self) -> Sequence[str]:
        """What dns.log leaves out."""
        return (
            "Zeek dns.log: sizes of DNS messages are the least that their names and records take",
            "Zeek dns.log: types of answer records are told from their text; repeated answers are not told apart",
        )

    def read(self, source: ByteSource, reading: Reading) -> Iterator[RecordBlock]:
        """Read the whole log."""
        able, dns = self.capabilities, reading.settings.dns
        for table, lost in zeek_columns(source, reading, _WANTED):
            lookups = _lookups(table, able)
            bad = reading.damaged.add(table.numbers[table.bad].tolist(), table.reason)
            rows = lookup_rows(lookups, dns.answer_seconds, dns.answers_per_message,
                               answers=Capability.DNS_ANSWERS in able)  # fmt: skip
            yield RecordBlock([rows] if lookups else [], len(lookups), lost + bad)


def _lookups(table: TextColumns, able: Capability) -> list[DnsLookup]:
    times = table.times("ts")
    client, server = (table.addresses(f"id.{side}_h").to_pylist() for side in ("orig", "resp"))
    port, identifier, qtype = (table.count(name, 65_535) for name in ("id.orig_p", "trans_id", "qtype"))
    rtt, has_rtt = table.nanoseconds("rtt"), _set(table, "rtt") & (Capability.DNS_LATENCY in able)
    rcode, has_rcode = table.count("rcode", 4095), _set(table, "rcode")
    flags = sum((np.array([v == "T" for v in table.strings(n)]) * bit for n, bit in _BITS.items()),
                np.zeros(len(table), np.int64))  # fmt: skip
    names, answers, ttls = (table.strings(name) for name in ("query", "answers", "TTLs"))
    tcp = [value == "tcp" for value in table.strings("proto")]
    out = []
    for row in np.flatnonzero(~table.bad).tolist():
        records = answers[row].split(SET_SEPARATOR) if answers[row] else []
        # Answers without a code: the code is not logged, yet it must have been NOERROR.
        code = int(rcode[row]) if has_rcode[row] else 0 if records else -1
        out.append(DnsLookup(
            time=int(times[row]), client=client[row], server=server[row], client_port=int(port[row]),
            transport=6 if tcp[row] else 17, id=int(identifier[row]), qname=name_text(names[row]),
            qtype=int(qtype[row]), flags=int(flags[row]), rcode=code,
            latency=int(rtt[row]) if has_rtt[row] else -1, answers=records, ttls=_ttls(ttls[row]),
        ))  # fmt: skip
    return out


def _set(table: TextColumns, name: str) -> Bool:
    return np.array([bool(value) for value in table.strings(name)], np.bool_)


def _ttls(text: str) -> list[int]:
    """Return times to live in s; what is no number counts as 0."""
    out = []
    for part in text.split(SET_SEPARATOR) if text else ():
        try:
            out.append(min(max(0, int(float(part))), _MOST_TTL))
        except (ValueError, OverflowError):
            out.append(0)
    return out
