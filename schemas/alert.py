"""An alert: one revision of an episode. Consumers key by (id, revision)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from schemas.finding import DataQuality, Endpoint, Evidence, Severity
from schemas.word import Word


class Alert(Word):
    """A revision of an episode, as SIEMs read it on alerts.v1. Times are event time, ISO 8601, UTC."""

    type: Literal["alert"] = "alert"
    schema_version: Literal[1] = 1
    id: str = Field(
        description="same for all revisions of an episode: hash of cluster, origin, detector, subject, start"
    )
    revision: int = Field(ge=1)
    status: Literal["open", "closed"]
    cluster: str
    node: str = Field(description="node that saw it; empty when summed over nodes")
    detector: str
    rule: str | None = Field(None, description="name of the YAML rule, where one made it")
    kind: str
    title: str
    severity: Severity
    confidence: Annotated[float, Field(ge=0, le=1)]
    subject: str
    started_at: str = Field(description="first event of the evidence")
    detected_at: str = Field(description="tick in which the detector first fired")
    ended_at: str = Field(description="last tick in which it fired")
    tick: int = Field(description="tick of this revision, s since epoch")
    attackers: tuple[Endpoint, ...]
    victims: tuple[Endpoint, ...]
    techniques: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    explanation: str
    spoofable: bool
    data_quality: DataQuality
    occurrences: int = Field(ge=1, description="ticks in which the detector fired so far")
    suggested_response: str | None = None


class Watermark(Word):
    """A sender of alerts says that it has said all up to a tick. Readers of alerts skip these."""

    type: Literal["watermark"] = "watermark"
    sender: str = Field(description="agent/partition")
    tick: int = Field(description="all alerts up to this tick have been sent, s since epoch")
    senders: int = Field(ge=1, description="how many senders there are in all")


AlertRecord = Alert | Watermark
_RECORD: TypeAdapter[AlertRecord] = TypeAdapter(Annotated[AlertRecord, Field(discriminator="type")])


def decode_alert_record(value: bytes) -> AlertRecord:
    """Read one value of alerts.v1.

    Raises:
        pydantic.ValidationError: neither an alert nor a watermark.
    """
    return _RECORD.validate_json(value)
