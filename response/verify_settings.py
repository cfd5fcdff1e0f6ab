"""Settings of the verification of containments by packets."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class VerifySettings(BaseModel):
    """When packets are taken to say something about a containment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settle_s: float = Field(
        5.0, ge=0, le=600, description="s after a step in which answered packets are its enforcer's delay, no failure"
    )
    attempts: int = Field(
        3, ge=1, description="unanswered attempts since the last answered one until a containment counts as effective"
    )
    calm_s: float = Field(
        5.0, ge=1, le=600, description="s without an answer until it counts as effective; a node's second is one word"
    )
    quiet_s: float = Field(120.0, ge=1, le=3600, description="s without an attempt until it counts as quiet")
    blind_s: float = Field(
        90.0, ge=5, le=3600, description="s without a word of any node that could see it, until nothing is known: "
        "flows that go on are told once a minute"
    )  # fmt: skip
