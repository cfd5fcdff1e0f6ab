"""Alerts and incidents for tests: revision n is of tick 100 + n."""

from __future__ import annotations

from typing import Any

from schemas.alert import Alert
from schemas.finding import DataQuality
from schemas.incident import Incident
from schemas.word import iso_time


def alert(revision: int, **more: Any) -> Alert:
    tick = 100 + revision
    fields: dict[str, Any] = {
        "id": "a", "revision": revision, "status": "open", "cluster": "c", "node": "n", "detector": "port_scan",
        "kind": "port_scan_vertical", "title": "Port scan", "severity": "medium", "confidence": 0.5,
        "subject": "10.0.0.1", "started_at": iso_time(100), "detected_at": iso_time(101), "ended_at": iso_time(tick),
        "tick": tick, "attackers": (), "victims": (), "techniques": (), "evidence": (), "explanation": "it scans",
        "spoofable": False, "data_quality": DataQuality(), "occurrences": revision,
    }  # fmt: skip
    return Alert(**{**fields, **more})


def incident(revision: int) -> Incident:
    tick = 100 + revision
    return Incident(
        id="i", revision=revision, status="open", cluster="c", severity="medium", started_at=iso_time(100),
        updated_at=iso_time(tick), tick=tick, attackers=(), victims=(), techniques=(), alerts=(), alerts_total=1,
        summary="one alert",
    )  # fmt: skip
