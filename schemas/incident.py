"""An incident: alerts that belong together by attacker or victim and time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.finding import Severity
from schemas.word import Word

Stage = Literal["reconnaissance", "access", "lateral_movement", "command_and_control", "exfiltration", "impact"]
STAGES: tuple[Stage, ...] = (
    "reconnaissance", "access", "lateral_movement", "command_and_control", "exfiltration", "impact",
)  # fmt: skip


class IncidentStage(Word):
    """What is known of one stage of an attack."""

    stage: Stage = Field(description="one or several ATT&CK tactics; docs/alerts.md says which")
    first_at: str = Field(description="detection of its first alert, ISO 8601, UTC")
    last_at: str = Field(description="latest time at which one of its alerts fired, ISO 8601, UTC")
    alerts: int = Field(ge=1, description="alerts of this stage")


class IncidentAlert(Word):
    """An alert's place in an incident."""

    id: str = Field(description="of the alert")
    detector: str = Field(description="id of the detector")
    kind: str = Field(description="as in the alert")
    severity: Severity = Field(description="as in the alert")
    detected_at: str = Field(description="as in the alert")
    explanation: str = Field(description="as in the alert")
    stages: tuple[Stage, ...] = Field((), description="stages that its techniques belong to")


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
    stages: tuple[IncidentStage, ...] = Field((), description="stages that the attack has reached, by time")
    alerts: tuple[IncidentAlert, ...] = Field(
        description="the timeline: first revision of each in order of detection, at most 100"
    )
    alerts_total: int = Field(ge=1, description="alerts that belong to it")
    summary: str = Field(description="kinds in order, who, whom, how many alerts, in one sentence")
