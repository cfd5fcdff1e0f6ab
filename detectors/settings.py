"""Settings of the engine."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class EngineSettings(BaseModel):
    """What is true of all detectors together; limits of one detector are in its own Config."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster: str = Field("", description="cluster name in alerts; empty: as the events say")
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = Field(
        0, description="seed of hashes and models; set a secret one to keep chosen hash collisions out"
    )
    event_partitions: Annotated[int, Field(ge=1, le=256)] = Field(
        4, description="stage-1 partitions (count); must be the partition count of events.v1"
    )
    rollup_partitions: Annotated[int, Field(ge=1, le=8)] = Field(
        2,
        description="stage-2 partitions (count); each costs a message and an evaluation per tick, so a few are enough",
    )
    max_nodes: Annotated[int, Field(ge=1, le=4096)] = Field(
        2048, description="nodes that one stage-1 partition keeps state for (count)"
    )
    max_parts_pending: Annotated[int, Field(ge=1)] = Field(
        64, description="messages of one unfinished second kept per node (count); more closes it"
    )
    max_cuts_pending: Annotated[int, Field(ge=1, le=64)] = Field(
        4, description="unfinished seconds kept per node (count); more closes the oldest"
    )
    silence_s: Annotated[int, Field(ge=2, le=3600)] = Field(
        10, description="s of the partition's append time after which a node that says nothing is not waited for"
    )
    skew_s: Annotated[int, Field(ge=1, le=3600)] = Field(
        5, description="s between send time and append time above which a node's clock is taken to be wrong"
    )
    workloads_per_minute: Annotated[int, Field(ge=1)] = Field(
        4096, description="addresses that one node reports per minute (count); the busiest are kept"
    )
    sources_per_victim: Annotated[int, Field(ge=1, le=16_384)] = Field(
        2048, description="new sources that one event partition reports per victim, or identity, and tick (count)"
    )
