"""An incident: alerts that belong together by attacker or victim and time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.finding import Severity
from schemas.word import Word


class IncidentAlert(Word):
    """An alert's place in an incident."""

    id: str
    detector: str
    kind: str
    severity: Severity
    detected_at: str
    explanation: str


class Incident(Word):
    """A revision of an incident, as SIEMs read it on incidents.v1."""

    type: Literal["incident"] = "incident"
    schema_version: Literal[1] = 1
    id: str = Field(description="same for all revisions")
    revision: int = Field(ge=1)
    status: Literal["open", "closed"]
    cluster: str
    severity: Severity
    started_at: str
    updated_at: str
    tick: int = Field(description="tick of this revision, s since epoch")
    attackers: tuple[str, ...] = Field(description="addresses or names, at most 20")
    victims: tuple[str, ...] = Field(description="addresses or names, at most 20")
    techniques: tuple[str, ...]
    alerts: tuple[IncidentAlert, ...] = Field(description="first revision of each, at most 100")
    alerts_total: int = Field(ge=1)
    summary: str
