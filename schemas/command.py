"""An operator's command on commands.v1; `response.signing` makes and checks its signature."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.signed import SignedWord

Verb = Literal["approve", "reject", "extend", "revert", "allow", "disallow", "stop", "resume"]


class Command(SignedWord):
    """One signed word of an operator on commands.v1."""

    type: Literal["command"] = "command"
    schema_version: Literal[1] = 1
    cluster: Annotated[str, Field(max_length=253)] = Field("local", description="the cluster it is meant for")
    verb: Verb = Field(description="what to do")
    target: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="response id; allow: an address, block, namespace/pod or namespace/*; stop, resume: *"
    )
    seconds: Annotated[int, Field(ge=0, le=31_536_000)] = Field(
        0, description="extend: kept for so long after issued_at; allow: valid for so long, 0 for good"
    )
    reason: Annotated[str, Field(max_length=512)] = Field("", description="why, in the operator's words")
