"""Text off the wire: bounded, printable ASCII, everything else as ``\\DDD`` (RFC 4343 section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.events import MAX_TEXT

# One character or escape per byte; NAME folds case and escapes the dot, which separates labels.
NAME = tuple(chr(b).lower() if 33 <= b <= 126 and b not in b".\\" else f"\\{b:03d}" for b in range(256))
TEXT = tuple(chr(b) if 32 <= b <= 126 and b != 0x5C else f"\\{b:03d}" for b in range(256))
_HOST = tuple("." if b == 0x2E else NAME[b] for b in range(256))


def text(data: bytes) -> str:
    """Return printable text of at most ``MAX_TEXT`` characters."""
    return _joined(data, TEXT)


def host(data: bytes) -> str:
    """Return a dotted host name in lower case, as question names are written, without a final dot."""
    return _joined(data.removesuffix(b"."), _HOST)


def _joined(data: bytes, table: Sequence[str]) -> str:
    return "".join([table[byte] for byte in data[:MAX_TEXT]])[:MAX_TEXT]
