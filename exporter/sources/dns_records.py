"""DNS rows from logs that have one line per question with all its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from exporter.record_rows import Rows, to_rows, words
from exporter.sources.dns_text import query_bytes, record_of
from schemas.addresses import UNSPECIFIED
from schemas.events import ADDRESS, WORD

_SECOND = 1_000_000_000
_ANSWER_FLAG = 0x8000


@dataclass(frozen=True)
class DnsLookup:
    """One question and what came of it.

    Attributes:
        time: ns since epoch, of the question.
        client: 16 bytes.
        server: 16 bytes; all zero where the log does not say it.
        qname: as rows have it.
        rcode: -1 where no answer is known.
        latency: ns, -1 where it is not known.
        answers: answer records as text.
        ttls: s, in the order of the answers; may be fewer.
    """

    time: int
    client: bytes
    qname: str
    server: bytes = UNSPECIFIED
    client_port: int = 0
    transport: int = 17
    id: int = 0
    qtype: int = 0
    flags: int = 0
    rcode: int = -1
    latency: int = -1
    answers: Sequence[str] = field(default_factory=tuple)
    ttls: Sequence[int] = field(default_factory=tuple)


def lookup_rows(lookups: Sequence[DnsLookup], answer_seconds: int, most_answers: int, *, answers: bool = True,
                latency: bool = False) -> Rows:  # fmt: skip
    """Return rows: one per answer record, one where there is none.

    Args:
        lookups: questions.
        answer_seconds: after so many s an unanswered one is told, as in captures.
        most_answers: answer records reported of one question; more are counted in ``records`` only.
        answers: the log tells of answers; if not, rows are of questions alone and told at once.
        latency: such a log tells how long answers took all the same.
    """
    out: dict[str, list[int]] = {name: [] for name in _NUMBERS}
    texts: dict[str, list[str]] = {"qname": [], "record_data": []}
    ends: dict[str, list[bytes]] = {"client": [], "server": []}
    when: list[int] = []
    for lookup in lookups:
        answered = answers and lookup.rcode >= 0
        records = [record_of(data, lookup.qtype) for data in lookup.answers] if answered else []
        told = records[:most_answers] or [(0, "", 0)]
        size = query_bytes(lookup.qname)
        wait = max(0, lookup.latency) if answered else answer_seconds * _SECOND if answers else 0
        for number, (kind, data, _) in enumerate(told):
            when.append(lookup.time + wait)
            ends["client"].append(lookup.client)
            ends["server"].append(lookup.server)
            texts["qname"].append(lookup.qname)
            texts["record_data"].append(data)
            values = (
                lookup.time, lookup.client_port, lookup.transport, lookup.id, lookup.qtype,
                lookup.rcode if answered else -1, lookup.flags | (_ANSWER_FLAG if answered else 0),
                number + 1 if answered else 0, kind, lookup.ttls[number] if number < len(lookup.ttls) else 0,
                len(records), 0 if number else size,
                size + sum(r[2] for r in records) if answered and not number else 0,
                lookup.latency if answered or latency else -1,
            )  # fmt: skip
            for name, value in zip(_NUMBERS, values, strict=True):
                out[name].append(value)
    columns = {name: np.array(values, np.int64) for name, values in out.items()}
    coded: dict[str, pa.Array] = {name: words(values, WORD) for name, values in texts.items()}
    coded |= {name: words(values, ADDRESS) for name, values in ends.items()}
    return to_rows("dns", np.array(when, np.int64), columns | coded)


_NUMBERS = (
    "time", "client_port", "transport", "id", "qtype", "rcode", "flags", "answer_number", "record_type", "ttl",
    "records", "query_bytes", "answer_bytes", "latency",
)  # fmt: skip
