"""DNS names and answers as logs write them, and the least size of their messages."""

from __future__ import annotations

import re

from schemas.addresses import pack
from schemas.events import MAX_TEXT

_HEX = re.compile(r"\\x([0-9a-fA-F]{2})")
_ODD = re.compile(r"[^!-~]")
# RFC 1035: message header; type and class of a question; fixed fields of a record with a compressed name.
_HEADER, _QUESTION, _RECORD = 12, 4, 12
_A, _CNAME, _TXT, _AAAA = 1, 5, 16, 28


def name_text(name: str) -> str:
    r"""Return a name as rows have it: lower case, no final dot, bytes outside printable ASCII as ``\DDD``."""
    plain = _HEX.sub(lambda found: chr(int(found[1], 16)), name).removesuffix(".").lower()
    if _ODD.search(plain):
        plain = "".join(c if "!" <= c <= "~" else "".join(f"\\{b:03d}" for b in c.encode()) for c in plain)
    return plain[:MAX_TEXT]


def query_bytes(qname: str) -> int:
    """Return the least bytes that a question about a name takes (RFC 1035 section 4.1, no EDNS)."""
    return _HEADER + (len(qname) + 2 if qname else 1) + _QUESTION


def record_of(data: str, qtype: int) -> tuple[int, str, int]:
    """Return type, text and least bytes of an answer record that a log gives as text alone.

    Addresses and ``TXT`` tell their type; another answer to a question for addresses is an alias (CNAME), and
    to any other question it has the type asked.
    """
    try:
        packed = pack(data)
    except ValueError:
        if data.startswith("TXT "):
            return _TXT, data[:MAX_TEXT], _RECORD + len(data)
        kind = _CNAME if qtype in (_A, _AAAA, 0) else qtype
        return kind, name_text(data), _RECORD + len(data) + 2
    four = ":" not in data
    return (_A if four else _AAAA), data, _RECORD + (4 if four else len(packed))
