"""What the agent of a node has in the kernel's tables, and what that dropped, on nodereports.v1."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.word import Word


class NodeEntry(Word):
    """One pair that is cut, or one port that is limited."""

    kind: Literal["cut", "limit"] = Field(description="cut: dropped; limit: new connections above a rate are")
    what: str = Field(description="pair or port, in one line")
    response_id: str = Field(description="the response it serves")
    packets: int = Field(ge=0, description="dropped since it was set, as far as this agent saw")
    bytes: int = Field(ge=0, description="IP bytes of these packets")
    last_cut: int = Field(ge=0, description="latest look at which more was dropped than before, s since epoch; 0: none")
    expires_in: int = Field(ge=0, description="s until the kernel forgets it")


class NodeRefusal(Word):
    """One command that was not obeyed."""

    command_id: str = Field(description="its id, as far as it could be read")
    reason: str = Field(description="one word")


class NodeReport(Word):
    """One look of one agent at its tables."""

    type: Literal["node_report"] = "node_report"
    schema_version: Literal[1] = 1
    cluster: str = Field(description="of the node")
    node: str = Field(description="which node")
    at: str = Field(description="when it looked, ISO 8601, UTC")
    state: Literal["enforcing", "refusing", "failing"] = Field(
        description="refusing: packets would bypass the tables; failing: the kernel did not take them"
    )
    reason: str = Field("", description="one word: why it does not enforce")
    message: str = Field("", description="the same in one sentence")
    entries: tuple[NodeEntry, ...] = Field((), description="what is in the tables")
    obeyed: tuple[str, ...] = Field((), description="ids of the last commands that were obeyed, the latest first")
    refused: tuple[NodeRefusal, ...] = Field((), description="the last commands that were refused, the latest first")
