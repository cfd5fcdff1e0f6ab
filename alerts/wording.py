"""Numbers, times and names as people read them; safe to print."""

from __future__ import annotations

import unicodedata

from schemas.finding import Endpoint, Evidence

# Control, format (also the marks that reverse text), surrogate, private, line and paragraph separators.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str, limit: int) -> str:
    """Return text with what a terminal would act on written as an escape, cut to ``limit`` characters."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(_escaped(c) if unicodedata.category(c) in _UNPRINTABLE else c for c in text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def number(value: float) -> str:
    """Return a number with thousands separators; fractions with at most three significant digits."""
    if abs(value) >= 1e15:
        return f"{value:.3g}"
    if value == int(value):
        return f"{int(value):,}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def evidence_text(item: Evidence) -> str:
    """Return one value against its limit, as in ``distinct ports 1,204 in 300 s (limit 10)``."""
    value = f"{item.name.replace('_', ' ')} {number(item.value)}"
    unit = f" {item.unit}" if item.unit else ""
    window = f" in {number(item.window)} s" if item.window else ""
    limit = f" (limit {number(item.limit)})" if item.limit is not None else ""
    return printable(f"{value}{unit}{window}{limit}", 200)


def name(endpoint: Endpoint) -> str:
    """Return what an endpoint is called: pod or Service with namespace, node, address, or hardware address."""
    if endpoint.pod is not None:
        text = f"{endpoint.namespace}/{endpoint.pod}" if endpoint.namespace else endpoint.pod
    else:
        text = endpoint.service or (_node(endpoint) or endpoint.ip or endpoint.mac or "unknown")
    return printable(text, 300)


def _node(endpoint: Endpoint) -> str | None:
    return f"node {endpoint.node}" if endpoint.identity == "known" and endpoint.node else None


def title(endpoint: Endpoint) -> str:
    """Return the name with its kind and address, as in ``pod shop/web-1 (10.244.1.5)``."""
    kind = "pod " if endpoint.pod is not None else "Service " if endpoint.service else ""
    text = name(endpoint)
    address = printable(endpoint.ip or endpoint.mac or "", 60)
    if endpoint.dns_name and text == address:
        return f"{address} (asked for as {printable(endpoint.dns_name, 100)})"
    return f"{kind}{text}" if address in ("", text) else f"{kind}{text} ({address})"


def duration(seconds: int) -> str:
    """Return a time span, as in ``45 s``, ``12 min`` or ``3 h 20 min``; whole units, rounded down."""
    if seconds < 120:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    if hours < 2:
        return f"{seconds // 60} min"
    return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"
