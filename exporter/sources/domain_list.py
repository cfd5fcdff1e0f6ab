"""Lists of domain names, taken as the DNS questions of one client, one each second.

Plain lines with one name each, or a table with commas and a header line that has a column `domain`. Other
columns (labels above all) are not read. There is no time in such a list: questions begin at ``BEGIN``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from exporter.record_cutter import RecordBlock
from exporter.sources.byte_source import ByteSource
from exporter.sources.dns_records import DnsLookup, lookup_rows
from exporter.sources.dns_text import name_text
from exporter.sources.lines import read_lines
from exporter.sources.log_reader import Head, LogReader, Reading
from schemas.addresses import pack
from schemas.events import Capability

BEGIN = 946_684_800  # 2000-01-01, no time at which anything real was recorded
# Addresses reserved for documentation (RFC 5737), which no real host has.
CLIENT, RESOLVER = pack("192.0.2.1"), pack("198.51.100.53")
_NAME_COLUMNS = ("domain", "domain_name", "qname", "query", "host", "hostname", "fqdn", "name")
# RFC 1035 section 2.3.4: labels of 63, names of 253 characters in text; underscores occur in practice.
_DOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)+")
_SECOND = 1_000_000_000


class DomainList(LogReader):
    """Names alone."""

    id = "domain_list"
    title = "a list of domain names"

    @classmethod
    def recognises(cls, head: Head) -> bool:
        """A header with a column of names, or lines of which at least nine in ten are names with a dot."""
        lines = [line for line in head.lines if not line.startswith("#")]
        if not lines or head.data[:1] in (b"{", b"["):
            return False
        column = _column(lines[0])
        names = [_name(line, column) for line in (lines[1:] if column is not None else lines)]
        good = sum(_is_domain(name) for name in names)
        return bool(names) and good * 10 >= len(names) * 9

    @property
    def capabilities(self) -> Capability:
        """Questions only."""
        return Capability.DNS

    @property
    def notes(self) -> Sequence[str]:
        """Nearly everything is unknown."""
        return ("domain list: names alone, one a second from one made-up client; no times, types, answers or flows",)

    def read(self, source: ByteSource, reading: Reading) -> Iterator[RecordBlock]:
        """Read the whole list."""
        column: int | None = None
        asked, first = 0, True
        for block in read_lines(source, reading.settings.reading.line_bytes):
            lookups: list[DnsLookup] = []
            wrong: list[int] = []
            for number, raw in zip(block.numbers, block.lines, strict=True):
                line = raw.decode("utf-8", "replace")
                if line.startswith("#"):
                    continue
                if first:
                    first, column = False, _column(line)
                    if column is not None:
                        continue
                name = _name(line, column)
                if not _is_domain(name):
                    wrong.append(number)
                    continue
                lookups.append(DnsLookup((BEGIN + asked) * _SECOND, CLIENT, name_text(name), RESOLVER))
                asked += 1
            lost = reading.damaged.add(wrong, "no domain name")
            lost += reading.damaged.add(block.too_long, f"longer than {reading.settings.reading.line_bytes} bytes")
            yield RecordBlock([lookup_rows(lookups, 0, 1, answers=False)] if lookups else [], len(lookups), lost)


def _column(line: str) -> int | None:
    """Return which column of a header line holds names; none where it is no header line."""
    words = [word.strip().strip('"').lower() for word in line.split(",")]
    return next((words.index(name) for name in _NAME_COLUMNS if name in words), None)


def _name(line: str, column: int | None) -> str:
    fields = line.split(",") if column is not None else [line]
    index = column or 0
    return fields[index].strip().strip('"').removesuffix(".").lower() if index < len(fields) else ""


def _is_domain(name: str) -> bool:
    # An address in dotted form is no name: no top-level domain is a number (RFC 3696 section 2).
    return _DOMAIN.fullmatch(name) is not None and not name.rpartition(".")[2].isdigit()
