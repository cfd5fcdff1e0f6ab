"""What the responder tells the agent of a node to drop or to slow down, on nodecommands.v1."""

from __future__ import annotations

from typing import Annotated, Literal

import orjson
from pydantic import Field

from schemas.signed import SignedWord
from schemas.word import Word

Transport = Literal["TCP", "UDP", "SCTP"]
# As many as fit a message that an audit line can show in full.
MAX_CUTS = 256
MAX_LIMITS = 16
MAX_CAPTURES = 4

Text = Annotated[str, Field(max_length=253)]
AddressText = Annotated[str, Field(min_length=2, max_length=64)]


class Cut(Word):
    """Packets between two sides that are dropped, both ways, established connections included.

    With a protocol and port only what goes to that port of the destination, and the answers to it.
    """

    source: AddressText = Field(description="address or block")
    destination: AddressText = Field(description="address or block")
    protocol: Transport | None = Field(None, description="absent: every protocol")
    port: int | None = Field(None, ge=1, le=65535, description="of the destination; given together with protocol")


class Limit(Word):
    """New connections to one port that are dropped above a rate: of each source first, then of all together."""

    victim: AddressText = Field(description="address that packets have when the node forwards them: a pod's")
    protocol: Transport = Field(description="of the port")
    port: int = Field(ge=1, le=65535, description="where the pod listens, not the Service's port")
    per_source: int = Field(ge=1, le=1_000_000, description="new connections per second that one address may open")
    in_all: int = Field(ge=1, le=1_000_000, description="new connections per second that all together may open")


class Capture(Word):
    """Packets of one pod that are written to a file on its node, until the first of the bounds is met."""

    address: AddressText = Field(description="of the pod; its own interface on the node is listened to")
    packets: int = Field(ge=1, le=1_000_000, description="at most so many")
    bytes: int = Field(ge=4096, le=1 << 30, description="size of the file at most")
    seconds: int = Field(ge=1, le=3600, description="at most so long")


class NodeCommand(SignedWord):
    """One signed word of the responder to the agent of one node.

    `apply` sets what is listed; of two that name the same pair or port the later expiry holds. `lift` takes back all
    that commands of the same response, issued up to this one, have set on the node.
    """

    type: Literal["node_command"] = "node_command"
    schema_version: Literal[1] = 1
    cluster: Text = Field(description="of the node")
    node: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="whose agent is meant")
    verb: Literal["apply", "lift"] = Field(description="what to do")
    response_id: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")] = Field(
        description="the response it serves"
    )
    namespace: Text = Field("", description="of the pods it is about")
    alert_id: Text = Field("", description="the alert that caused that")
    action: Text = Field("", description="the action that planned it")
    decided_tick: int = Field(0, ge=0, description="tick of the alert, s since epoch")
    cuts: Annotated[tuple[Cut, ...], Field(max_length=MAX_CUTS)] = Field((), description="apply: what to drop")
    limits: Annotated[tuple[Limit, ...], Field(max_length=MAX_LIMITS)] = Field((), description="apply: what to slow")
    captures: Annotated[tuple[Capture, ...], Field(max_length=MAX_CAPTURES)] = Field(
        (), description="apply: what to write down"
    )
    expires_at: Annotated[str, Field(max_length=40)] = Field(
        "", description="apply: when the kernel forgets it by itself, ISO 8601, UTC"
    )

    def canonical(self) -> bytes:
        """As of any signed word; a command without captures is signed as before there were any.

        Nodes read commands of a week again when they start, also those of an older responder.
        """
        if self.captures:
            return super().canonical()
        fields = self.model_dump(mode="json", by_alias=True, exclude={"signature", "captures"})
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
