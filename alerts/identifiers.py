"""Ids that are the same wherever and whenever they are computed."""

from __future__ import annotations

import hashlib

import orjson


def identifier(*parts: str | int | None) -> str:
    """Return 32 hex digits (BLAKE2b, 16 bytes) that stand for the parts.

    The parts are hashed as a JSON array, so that no two lists of parts share their bytes.
    """
    return hashlib.blake2b(orjson.dumps(parts), digest_size=16).hexdigest()
