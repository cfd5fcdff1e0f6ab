"""Values that a filter of rows compares with: numbers by name, address ranges, texts and patterns."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from dns.rcode import Rcode
from dns.rdatatype import RdataType

from detectors.columns import address_bytes
from detectors.condition import ConditionError
from schemas.events import Verdict

MAX_TEXT = 512  # characters of one text or pattern

Mask = npt.NDArray[np.bool_]
Test = Callable[[pa.Array], Mask]
Network = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]  # address and mask, 16 bytes each

TEXT_FUNCTIONS = ("startswith", "endswith", "contains", "like", "matches")

_PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmp6": 58, "sctp": 132}
_TYPES = {kind.name.lower(): int(kind) for kind in RdataType}
# Words that stand for numbers in a column.
NUMBER_WORDS: Mapping[str, Mapping[str, int]] = {
    "proto": _PROTOCOLS,
    "transport": _PROTOCOLS,
    "qtype": _TYPES,
    "record_type": _TYPES,
    "rcode": {code.name.lower(): int(code) for code in Rcode},
    "verdict": {"unknown": Verdict.UNKNOWN, "allowed": Verdict.ALLOWED, "denied": Verdict.DENIED},
}


def number(column: str, value: object) -> float:
    """Return the number that a value stands for in a column.

    Raises:
        ConditionError: it is none, or a word that the column does not know.
    """
    if isinstance(value, int | float):
        if abs(value) > 1e18:
            problem = f"{column}: {value:g} is too large"
            raise ConditionError(problem)
        return value
    words = NUMBER_WORDS.get(column, {})
    found = words.get(str(value).lower())
    if found is None:
        known = f"; known words: {', '.join(list(words)[:12])}" if words else ""
        problem = f"{column} is a number, not {str(value)[:40]!a}{known}"
        raise ConditionError(problem)
    return found


def network(column: str, value: object) -> Network:
    """Return an address or a range as IPv4-mapped bytes and their mask.

    Raises:
        ConditionError: it is none.
    """
    try:
        parsed = ipaddress.ip_network(value if isinstance(value, str) else "")
    except ValueError as error:
        problem = f"{column}: {str(value)[:60]!a} is no address or range: {str(error)[:80]}"
        raise ConditionError(problem) from None
    four = parsed.version == 4
    packed = (b"\0" * 10 + b"\xff\xff" if four else b"") + parsed.network_address.packed
    bits = parsed.prefixlen + (96 if four else 0)
    mask = ((1 << bits) - 1 << (128 - bits)).to_bytes(16)
    return np.frombuffer(packed, np.uint8), np.frombuffer(mask, np.uint8)


def any_network(networks: Sequence[Network]) -> Test:
    """Return a test of 16-byte addresses: inside any of the ranges."""

    def test(values: pa.Array) -> Mask:
        addresses = address_bytes(values)
        inside = np.zeros(len(addresses), np.bool_)
        for address, mask in networks:
            inside |= ((addresses & mask) == address).all(axis=1)
        return inside

    return test


def any_text(column: str, values: Sequence[object]) -> Test:
    """Return a test of texts: equal to any, whatever the case.

    Raises:
        ConditionError: a value is no text, or too long.
    """
    wanted = pa.array(sorted({_text(column, value).lower() for value in values}), pa.string())
    return lambda texts: _mask(pc.is_in(pc.utf8_lower(texts), value_set=wanted))


def text_test(function: str, column: str, values: Sequence[object]) -> Test:
    """Return a test of texts: one of ``TEXT_FUNCTIONS`` holds for any of the values, whatever the case.

    ``like`` knows ``*`` and ``?``; ``matches`` finds an RE2 pattern anywhere, in time linear in the text.

    Raises:
        ConditionError: a value is no text or no pattern.
    """
    tests = [_one_test(function, column, _text(column, value)) for value in values]
    return lambda texts: functools.reduce(np.logical_or, [test(texts) for test in tests])


def _one_test(function: str, column: str, text: str) -> Test:
    if function in ("startswith", "endswith", "contains"):
        kernel = {"startswith": pc.starts_with, "endswith": pc.ends_with, "contains": pc.match_substring}[function]
        return lambda texts: _mask(kernel(texts, text, ignore_case=True))
    pattern = text if function == "matches" else _glob(text)
    try:
        pc.match_substring_regex(pa.array([""]), pattern, ignore_case=True)
    except pa.ArrowInvalid as error:
        problem = f"{column}: {text[:60]!a} is no pattern: {ascii(str(error)[:80])[1:-1]}"
        raise ConditionError(problem) from None
    return lambda texts: _mask(pc.match_substring_regex(texts, pattern, ignore_case=True))


def _glob(text: str) -> str:
    """Return a pattern that the whole text must fit; every other character is quoted as RE2 does."""
    parts = [{"*": ".*", "?": "."}.get(c, c if c.isalnum() or c == "_" else f"\\x{{{ord(c):x}}}") for c in text]
    return f"(?s)\\A{''.join(parts)}\\z"


def _text(column: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        problem = f"{column}: {str(value)[:40]!a} must be a text in quotes of at most {MAX_TEXT} characters"
        raise ConditionError(problem)
    return value


def _mask(result: pa.Array | pa.ChunkedArray) -> Mask:
    mask: Mask = result.to_numpy(zero_copy_only=False).astype(np.bool_)
    return mask
