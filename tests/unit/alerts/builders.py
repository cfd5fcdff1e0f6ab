"""Findings, alerts and watermarks for tests; all that a test does not name has an ordinary value."""

from __future__ import annotations

from typing import Any

from schemas.alert import Alert, Watermark
from schemas.finding import DataQuality, Endpoint, Evidence, Finding


def finding(detector: str = "port_scan", subject: str = "10.0.0.9", value: float = 11, **fields: Any) -> Finding:
    """Return a finding about ports tried, limit 10."""
    plain: dict[str, Any] = {
        "kind": detector, "title": "Title", "severity": "medium", "confidence": 0.8, "tick": 0, "started": 95,
        "node": "n1", "summary": f"{value:g} ports tried, limit 10", "spoofable": False, "quiet": 60,
        "attackers": (Endpoint(ip="10.0.0.9"),), "victims": (Endpoint(ip="10.0.0.5"),), "techniques": ("T1046",),
        "evidence": (Evidence(name="ports", value=value, limit=10, unit="ports", window=300),),
    }  # fmt: skip
    return Finding(detector=detector, subject=subject, **{**plain, **fields})


def alert(identity: str = "a1", tick: int = 100, revision: int = 1, *, attacker: str | None = "10.0.0.9",
          victim: str | None = "10.0.0.5", **fields: Any) -> Alert:  # fmt: skip
    """Return an alert revision of medium severity."""
    plain: dict[str, Any] = {
        "status": "open", "cluster": "c1", "node": "n1", "detector": "port_scan", "kind": "port_scan_vertical",
        "title": "Title", "severity": "medium", "confidence": 0.8, "subject": attacker or victim or "nobody",
        "started_at": "2026-01-01T00:00:00.000Z", "detected_at": "2026-01-01T00:00:01.000Z",
        "ended_at": "2026-01-01T00:00:01.000Z", "techniques": ("T1046",), "evidence": (), "explanation": "Because.",
        "spoofable": False, "data_quality": DataQuality(), "occurrences": 1,
        "attackers": (Endpoint(ip=attacker),) if attacker else (), "victims": (Endpoint(ip=victim),) if victim else (),
    }  # fmt: skip
    return Alert(id=identity, tick=tick, revision=revision, **{**plain, **fields})


def mark(tick: int, sender: str = "detect/0", senders: int = 1) -> Watermark:
    """Return a watermark."""
    return Watermark(sender=sender, tick=tick, senders=senders)
