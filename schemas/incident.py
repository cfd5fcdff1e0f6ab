"""An incident: alerts that belong together by attacker or victim and time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.finding import Severity
from schemas.word import Word


class IncidentAlert(Word):
    """An alert's place in an incident."""

    id: str = Field(description="of the alert")
    detector: str = Field(description="id of the detector")
    kind: str = Field(description="as in the alert")
    severity: Severity = Field(description="as in the alert")
    detected_at: str = Field(description="as in the alert")
    explanation: str = Field(description="as in the alert")


class Incident(Word):
    """A revision of an incident, as SIEMs read it on incidents.v1."""

    type: Literal["incident"] = "incident"
    schema_version: Literal[1] = 1
    id: str = Field(description="same for all revisions")
    revision: int = Field(ge=1, description="counts the incident's revisions from 1")
    status: Literal["open", "closed"] = Field(description="closed: the last revision")
    cluster: str = Field(description="of all its alerts")
    severity: Severity = Field(description="the highest of its alerts")
    started_at: str = Field(description="earliest event of its alerts, ISO 8601, UTC")
    updated_at: str = Field(description="tick of the last news, ISO 8601, UTC")
    tick: int = Field(description="tick of this revision, s since epoch")
    attackers: tuple[str, ...] = Field(description="addresses or names, at most 20")
    victims: tuple[str, ...] = Field(description="addresses or names, at most 20")
    techniques: tuple[str, ...] = Field(description="ATT&CK technique ids of its alerts")
    alerts: tuple[IncidentAlert, ...] = Field(description="first revision of each, at most 100")
    alerts_total: int = Field(ge=1, description="alerts that belong to it")
    summary: str = Field(description="kinds in order, who, whom, how many alerts, in one sentence")
