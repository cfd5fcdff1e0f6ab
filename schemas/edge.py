"""An edge: whom a workload talked to in an hour, as one node saw it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas.word import Word

HOUR = 3600
_Name = Annotated[str, Field(max_length=253)]


class Edge(Word):
    """What one node saw of one workload towards one peer in one hour so far, on edges.v1.

    All fields but the counts name it. It is said again while the hour goes on, with larger counts; after a restart
    also with the same ones. The greatest counts of a name hold; those of several nodes are added.
    """

    cluster: _Name = Field(description="of the workload")
    node: _Name = Field(description="node that saw it; every flow is seen by one")
    namespace: _Name = Field(description="of the workload")
    workload: Annotated[str, Field(max_length=320)] = Field(description="kind/name")
    hour: int = Field(ge=0, description="begin of the hour, s since epoch")
    peer: Annotated[str, Field(max_length=640)] = Field(
        description="namespace/kind/name of a workload or Service, Node/name, or an address that nobody named"
    )
    port: int = Field(ge=0, le=65535, description="responder's port; ICMP: 0")
    protocol: Annotated[str, Field(max_length=8)] = Field(description="TCP, UDP, SCTP or ICMP")
    initiated: bool = Field(description="true: the workload was the initiator")
    flows: int = Field(ge=0, description="flows opened between the two")
    bytes_sent: int = Field(ge=0, description="IP bytes by the workload")
    bytes_received: int = Field(ge=0, description="IP bytes by the peer")
