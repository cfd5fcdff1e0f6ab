"""An edge: whom a workload talked to in an hour. Produced once the live exporter names workloads."""

from __future__ import annotations

from pydantic import Field

from schemas.word import Word


class Edge(Word):
    """One hour of one workload towards one peer on edges.v1."""

    cluster: str = Field(description="of the workload")
    namespace: str = Field(description="of the workload")
    workload: str = Field(description="kind/name")
    hour: int = Field(description="begin of the hour, s since epoch")
    peer: str = Field(description="namespace/kind/name, or an address outside")
    port: int = Field(ge=0, le=65535, description="responder's port")
    protocol: str = Field(description="TCP, UDP, SCTP or ICMP")
    initiated: bool = Field(description="true: the workload was the initiator")
    flows: int = Field(ge=0, description="flows between the two")
    bytes_sent: int = Field(ge=0, description="IP bytes by the workload")
    bytes_received: int = Field(ge=0, description="IP bytes by the peer")
