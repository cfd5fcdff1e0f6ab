"""What is still seen of a contained attack. Produced once containments are verified by packets."""

from __future__ import annotations

from pydantic import Field

from schemas.word import Word


class WatchRow(Word):
    """One tick of one containment on watch.v1."""

    cluster: str = Field(description="where the containment is")
    response_id: str = Field(description="the containment")
    tick: int = Field(description="s since epoch")
    attempts: int = Field(ge=0, description="packets or connections that match the containment")
    answered: int = Field(ge=0, description="of these, answered ones")
    last_packet: int = Field(ge=0, description="ns since epoch; 0: none")
