"""The manifest that makes a run of snapshot chunks one complete snapshot."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.word import Word

MAX_CHUNK = 512 << 10


class SnapshotManifest(Word):
    """Written after all chunks on state.v1; a snapshot without it does not exist."""

    type: Literal["snapshot"] = "snapshot"
    schema_version: Literal[1] = 1
    agent: str = Field(description="whose state it is")
    partition: int = Field(ge=0, description="input partition")
    partitions: int = Field(ge=1, description="partition count of the input topic; another count is refused")
    next_offset: int = Field(ge=0, description="first input offset that the snapshot does not contain")
    chunks: int = Field(ge=0, description="number of chunks")
    size: int = Field(ge=0, description="bytes of all chunks together")
    sha256: tuple[str, ...] = Field(description="hex digest of each chunk, in order")
