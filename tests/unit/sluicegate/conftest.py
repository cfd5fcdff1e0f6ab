"""Alerts made by hand for tests of the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from schemas.alert import Alert
from schemas.finding import DataQuality, Endpoint
from schemas.word import iso_time

FIRST = 1_700_000_000


@pytest.fixture
def make_alert() -> Callable[..., Alert]:
    return _alert


@pytest.fixture
def first() -> str:
    """Time of a case's first event, to which alerts' times are relative."""
    return iso_time(FIRST)


def _alert(
    kind: str, src: str = "", dst: str = "", *, at: float = 10, until: float | None = None, **more: Any
) -> Alert:
    """An alert that opened ``at`` seconds after ``FIRST`` and last fired at ``until``."""
    words: dict[str, Any] = {
        "id": f"{kind}/{src}/{dst}/{at}", "revision": 1, "status": "open", "cluster": "c", "node": "n",
        "detector": "d", "kind": kind, "title": kind, "severity": "medium", "confidence": 0.9, "subject": src,
        "started_at": iso_time(FIRST + at - 1), "detected_at": iso_time(FIRST + at),
        "ended_at": iso_time(FIRST + (until if until is not None else at)), "tick": FIRST + int(at),
        "attackers": (Endpoint(ip=src),) if src else (), "victims": (Endpoint(ip=dst),) if dst else (),
        "techniques": (), "evidence": (), "explanation": f"{kind}.", "spoofable": False,
        "data_quality": DataQuality(), "occurrences": 1,
    }  # fmt: skip
    return Alert(**(words | more))
