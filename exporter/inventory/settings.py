"""Settings of the inventory agent."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _is_range(text: str) -> str:
    return str(ipaddress.ip_network(text))


Ranges = Annotated[tuple[Annotated[str, AfterValidator(_is_range)], ...], Field(max_length=256)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class InventorySettings(BaseModel):
    """How the inventory is watched and told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    internal: Ranges = Field(
        (), description="ranges inside the cluster that its API does not tell, such as the pod range of a network "
        "plugin that gives out addresses itself"
    )  # fmt: skip
    shared: Ranges = Field((), description="ranges of NAT, gateways and proxies: many stand behind one address")
    page_objects: Annotated[int, Field(ge=1, le=5000)] = Field(
        500, description="objects per page of a list; what kubectl asks for, so that no answer is huge"
    )
    request_s: Seconds = Field(10.0, description="s until a list page or the start of a watch counts as failed")
    silence_s: Seconds = Field(
        90.0, description="s without a word on a watch until it counts as broken; bookmarks come once a minute"
    )
    watch_s: Annotated[int, Field(ge=10, le=3600)] = Field(
        300, description="s that the server is asked to keep a watch open; a fresh one finds another server of several"
    )
    retry_s: Seconds = Field(0.5, description="s until a failed request is tried again; doubles with each failure")
    retry_limit_s: Seconds = Field(30.0, description="s; longest of these waits: what a restarted server is late by")
    flush_s: Seconds = Field(0.5, description="s that statements are gathered before they are sent together")
    watermark_s: Annotated[int, Field(ge=1, le=60)] = Field(
        1, description="s between watermarks while nothing changes; workers wait for them with the events of a second"
    )
    restate_s: Annotated[float, Field(ge=60, le=7 * 86_400)] = Field(
        21_600.0, description="s between repetitions of all that holds; far below the topic's retention of 8 days, "
        "which would else forget a pod that lives longer"
    )  # fmt: skip
    pending: Annotated[int, Field(ge=1000, le=1 << 20)] = Field(
        50_000, description="statements waiting for the broker (about 2 kB each); above it watching pauses"
    )
