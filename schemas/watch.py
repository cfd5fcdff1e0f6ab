"""What is still seen of a contained attack: what to look for, and what was seen of it on watch.v1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from schemas.word import Word

# A plan cuts a handful of pairs; a policy that needs more than this many is not looked at pair by pair.
MAX_PAIRS = 64
MAX_SPARED = 32
_Cidr = Annotated[str, Field(min_length=2, max_length=64)]


class WatchPair(Word):
    """Flows that a containment means to cut, by who opens them towards whom."""

    source: _Cidr = Field(description="CIDR of those who open them")
    destination: _Cidr = Field(description="CIDR of those whom they are opened to")
    protocol: Literal["TCP", "UDP", "SCTP", "ICMP"] | None = Field(None, description="absent: any")
    port: Annotated[int, Field(ge=0, le=65535)] | None = Field(None, description="responder's port; absent: any")
    spared: Annotated[tuple[_Cidr, ...], Field(max_length=MAX_SPARED)] = Field(
        (),
        description="CIDRs that stay reachable on purpose (the pod's node, DNS): flows with one of them do not count",
    )


@dataclass(frozen=True, slots=True)
class Watch:
    """One active containment as stage 1 looks for it.

    ``since`` is when it was applied, ns since epoch; ``until`` when it ends, s since epoch.
    """

    response_id: str
    since: int
    until: int
    pairs: tuple[WatchPair, ...]


class WatchRow(Word):
    """One tick of one containment on one node, on watch.v1; (response_id, node, tick) names it, so repeats overwrite.

    A node that says nothing of a containment cannot see it: a zero is only said where one of its addresses is.
    """

    cluster: str = Field(description="where the containment is")
    response_id: str = Field(description="the containment")
    node: str = Field(description="node that saw it")
    tick: int = Field(description="s since epoch")
    attempts: int = Field(ge=0, description="flows of the containment with packets in this tick, after it was applied")
    answered: int = Field(ge=0, description="of these, flows in which both sides sent, all of it after it was applied")
    unsure: int = Field(ge=0, description="of these, flows in which both sides sent, some of it before it was applied")
    last_packet: int = Field(ge=0, description="last packet of the attempts, ns since epoch; 0: none")
    last_answered: int = Field(
        ge=0, description="last packet of the answered flows, by either side, ns since epoch; 0: none"
    )
