"""Settings of episodes and incidents; every limit and time with unit, default and reason. Times are event time."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from schemas.finding import Severity

_FROZEN = ConfigDict(frozen=True, extra="forbid")

Seconds = Annotated[int, Field(ge=1, le=7 * 86_400)]


class EpisodeSettings(BaseModel):
    """Life of an alert."""

    model_config = _FROZEN

    max_open: Annotated[int, Field(ge=4, le=1 << 20)] = Field(
        1024,
        description="episodes open at once in one book (about 11 kB each, at most about 100 kB); findings that "
        "would open another are shed, counted and alerted as alert_overflow",
    )
    reserved_percent: Annotated[int, Field(ge=0, le=90)] = Field(
        25,
        description="% of max_open that only findings of severity high or critical may take, "
        "so that a wave of small alerts cannot hide a large one",
    )
    spacing: Seconds = Field(
        10,
        description="s between two revisions of an episode, so at most six a minute; "
        "a higher severity, first proof that sources are not forged, and the end do not wait",
    )
    growth: Annotated[float, Field(gt=1, le=1000, allow_inf_nan=False)] = Field(
        2.0,
        description="factor by which the main value must have grown for a new revision: an attack that grows a "
        "thousandfold is told ten times, not a thousand times",
    )
    confidence_step: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="rise of confidence (0 to 1) that makes a new revision; smaller ones are noise"
    )
    refresh: Seconds = Field(
        3600, description="s after which an attack that goes on unchanged is told again, so that readers know it lasts"
    )


class IncidentSettings(BaseModel):
    """How alerts are put together."""

    model_config = _FROZEN

    window: Seconds = Field(
        600,
        description="s after the end of its last alert for which an incident still takes in alerts about the same "
        "endpoints; 10 min spans the pause between a scan and what follows it",
    )
    patience: Seconds = Field(
        7200,
        description="s without a word after which an open alert counts as ended; two refresh periods, "
        "because a worker that lost its state never closes what it opened",
    )
    open_severity: Severity = Field(
        "medium",
        description="lowest severity that opens an incident; lesser alerts only join one, or every odd packet "
        "would be an incident",
    )
    max_open: Annotated[int, Field(ge=1, le=1 << 16)] = Field(
        1000, description="incidents open at once; beyond it the one quiet for longest is closed early and counted"
    )
    max_alerts: Annotated[int, Field(ge=1, le=1 << 16)] = Field(
        500, description="alerts that an incident follows; more are counted in its total only"
    )
    max_pending: Annotated[int, Field(ge=1, le=1 << 20)] = Field(
        10_000,
        description="alerts waiting for the watermark of the slowest sender; beyond it the earliest are taken "
        "without waiting and counted, because losing the order is better than losing alerts",
    )
    max_seen: Annotated[int, Field(ge=1, le=1 << 20)] = Field(
        8192, description="ids of past alerts (about 100 bytes each) by which repeats after a restart are recognised"
    )


class SequenceSettings(BaseModel):
    """Rules over alerts."""

    model_config = _FROZEN

    max_alerts: Annotated[int, Field(ge=16, le=1 << 16)] = Field(
        2048,
        description="alerts that sequences remember (about 3 kB each); beyond it the one without a word for longest "
        "is forgotten and counted",
    )
    max_clusters: Annotated[int, Field(ge=1, le=256)] = Field(
        16,
        description="clusters on one topic of alerts that sequences look at; alerts of more are counted as strangers",
    )


class AlertSettings(BaseModel):
    """All settings of the life of alerts."""

    model_config = _FROZEN

    episodes: EpisodeSettings = EpisodeSettings()
    incidents: IncidentSettings = IncidentSettings()
    sequences: SequenceSettings = SequenceSettings()
