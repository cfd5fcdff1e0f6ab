"""An alert: one revision of an episode. Consumers key by (id, revision)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from schemas.finding import DataQuality, Endpoint, Evidence, Severity
from schemas.word import Word, read

# Detector and kind of the alert that a response was not carried out by its deadline; no detector makes it.
CONTAINMENT_OVERDUE = "containment_overdue"


class Alert(Word):
    """A revision of an episode, as SIEMs read it on alerts.v1. Times are event time, ISO 8601, UTC."""

    type: Literal["alert"] = "alert"
    schema_version: Literal[1] = 1
    id: str = Field(
        description="same for all revisions of an episode: hash of cluster, origin, detector, subject, start"
    )
    revision: int = Field(ge=1, description="counts the episode's revisions from 1")
    status: Literal["open", "closed"] = Field(description="closed: the last revision")
    cluster: str = Field(description="where it happened")
    node: str = Field(description="node that saw it; empty when summed over nodes")
    detector: str = Field(description="id of the detector")
    rule: str | None = Field(None, description="name of the YAML rule, where one made it")
    kind: str = Field(description="word of the common vocabulary, else the detector's id")
    title: str = Field(description="what it is called, for people")
    severity: Severity = Field(description="the highest so far")
    confidence: Annotated[float, Field(ge=0, le=1)] = Field(description="0 to 1, the highest so far")
    subject: str = Field(description="what the episode is about")
    started_at: str = Field(description="first event of the evidence")
    detected_at: str = Field(description="tick in which the detector first fired")
    ended_at: str = Field(description="last tick in which it fired")
    tick: int = Field(description="tick of this revision, s since epoch")
    attackers: tuple[Endpoint, ...] = Field(
        description="at most 20, the most often named first; those of proven packets only, once there is proof"
    )
    victims: tuple[Endpoint, ...] = Field(description="at most 20, the most often named first")
    techniques: tuple[str, ...] = Field(description="ATT&CK technique ids")
    evidence: tuple[Evidence, ...] = Field(description="each value at its largest so far, against its limit")
    explanation: str = Field(description="who, what with values and limits, and how far to trust it")
    spoofable: bool = Field(description="true: all evidence so far could have been sent under a false address")
    data_quality: DataQuality = Field(description="sums over the episode")
    occurrences: int = Field(ge=1, description="ticks in which the detector fired so far")
    suggested_response: str | None = Field(None, description="the detector's default response action")


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
        WordError: neither an alert nor a watermark.
    """
    return read("alert record", value, _RECORD.validate_python)
