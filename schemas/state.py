"""What is on state.v1: pages of state in chunks, made one complete snapshot by a manifest."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.word import Word

MAX_CHUNK = 512 << 10
MAX_MANIFEST = 900 << 10


class ChunkPlace(Word):
    """One chunk of a snapshot: the record ``agent/partition/epoch/next_offset/number``."""

    number: int = Field(ge=0, le=0xFFFFFFFF, description="of the owner's chunks, in the order written")
    next_offset: int = Field(ge=0, description="of the checkpoint that wrote it; older ones are referred to")
    size: int = Field(ge=1, le=MAX_CHUNK, description="bytes")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="hex digest of its bytes")


class SectionSize(Word):
    """One section of the state, for people who look at snapshots."""

    name: str = Field(description="of the part of the engine that it belongs to")
    version: int = Field(ge=0, description="of what that part keeps; one of another version starts cold")
    size: int = Field(ge=0, description="bytes")


class SnapshotManifest(Word):
    """Written after all chunks on state.v1; a snapshot without it does not exist."""

    type: Literal["snapshot"] = "snapshot"
    schema_version: Literal[2] = 2
    agent: str = Field(description="whose state it is")
    partition: int = Field(ge=0, description="input partition")
    partitions: int = Field(ge=1, description="partition count of the input topic; another count is refused")
    epoch: int = Field(ge=0, description="of the owner that wrote it: the offset of its claim on state.v1")
    next_offset: int = Field(ge=0, description="first input offset that the snapshot does not contain")
    size: int = Field(ge=0, description="bytes of the state")
    page: int = Field(ge=1, le=MAX_CHUNK, description="bytes of a page")
    sections: tuple[SectionSize, ...] = Field(description="what the state consists of")
    chunks: tuple[ChunkPlace, ...] = Field(description="chunks that hold its pages")
    index: tuple[ChunkPlace, ...] = Field(description="chunks that say, put together, where each page is")
