"""An operator's command. Signature checking arrives with the commands themselves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.word import Word


class Command(Word):
    """One signed word of an operator on commands.v1."""

    type: Literal["command"] = "command"
    schema_version: Literal[1] = 1
    id: Annotated[str, Field(min_length=8, max_length=64)] = Field(
        description="unique; a repeat is refused as a replay"
    )
    verb: Literal["approve", "reject", "extend", "revert", "allow", "disallow", "stop"] = Field(
        description="what to do"
    )
    target: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="response id, address or selector")
    seconds: Annotated[int, Field(ge=0)] = Field(0, description="extend: by how much")
    reason: Annotated[str, Field(max_length=512)] = Field("", description="why, in the operator's words")
    issued_at: str = Field(description="ISO 8601, UTC")
    key_id: Annotated[str, Field(max_length=64)] = Field(description="which operator key signed")
    signature: Annotated[str, Field(max_length=128)] = Field(description="Ed25519 over the other fields, hex")
