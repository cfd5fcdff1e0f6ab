"""What a detector says in one tick: who does what to whom, and by which numbers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from schemas.word import Word

Severity = Literal["info", "low", "medium", "high", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "low", "medium", "high", "critical")

MAX_ENDPOINTS = 20


class Endpoint(Word):
    """One side of an attack, with the identity it had at that time."""

    ip: str = Field(description="address in text; empty where only a MAC or a name is known")
    port: int | None = Field(None, ge=0, le=65535, description="port, where it is part of the evidence")
    protocol: str | None = Field(None, description="TCP, UDP, SCTP or ICMP, where a port is given")
    mac: str | None = Field(None, description="hardware address in text")
    interface: str | None = Field(None, description="interface by which its packets entered the node")
    forged: tuple[str, ...] = Field(
        (),
        max_length=8,
        description="addresses, not its own, that packets bore which entered by its interface; no rule about its own "
        "address meets those",
    )
    pod: str | None = Field(None, description="pod with this address at that time")
    namespace: str | None = Field(None, description="of the pod or Service")
    workload: str | None = Field(None, description="kind/name of the pod's top owner")
    service: str | None = Field(None, description="namespace/name of a Service with this address")
    node: str | None = Field(None, description="node that the pod runs on")
    dns_name: str | None = Field(
        None,
        description="name last asked for when its node's clients were told this address, if nothing names it; a hint",
    )
    labels: dict[str, str] = Field(default_factory=dict, description="of the pod")
    roles: tuple[str, ...] = Field((), description="what the operator or the inventory declares it to be, sorted")
    identity: Literal["known", "unknown"] = Field("unknown", description="unknown: no inventory names the address")


class Evidence(Word):
    """One number that led to the finding, against its limit."""

    name: str = Field(description="feature")
    value: FiniteFloat = Field(description="of the feature when it was largest")
    limit: FiniteFloat | None = Field(None, description="the value had to exceed this; absent for context")
    unit: str = Field("", description="of value and limit")
    window: int | None = Field(None, description="s over which the value was taken")


class DataQuality(Word):
    """How good the data behind a finding was."""

    sampling: int = Field(1, description="one packet in N was seen")
    lost_packets: int = Field(0, description="packets dropped before parsing during the episode")
    lost_rows: int = Field(0, description="rows shed by exporters during the episode")
    malformed: int = Field(0, description="packets that could not be parsed")
    late: int = Field(0, description="seconds of nodes of which something came late and counts in a later tick")
    lost_messages: int = Field(0, description="messages of exporters that never came, by their sequence numbers")
    restamped: int = Field(0, description="seconds of nodes with a wrong clock, moved to the broker's time")
    shed: int = Field(0, description="keys that a full table did not admit")
    notes: tuple[str, ...] = Field((), description="what the source cannot see, in words")


class Finding(Word):
    """A detector's statement about one subject in one tick."""

    detector: str = Field(description="id of the detector")
    rule: str | None = Field(None, description="name of the YAML rule, where one made it")
    kind: str = Field(description="word of the common vocabulary, else the detector's id")
    title: str = Field(description="what it is called, for people")
    severity: Severity = Field(description="how grave it is")
    confidence: Annotated[float, Field(ge=0, le=1)] = Field(description="0 to 1: how sure the detector is")
    tick: int = Field(description="cut that closed the tick, s since epoch")
    started: int = Field(description="first tick that belongs to this evidence, s since epoch")
    node: str = Field(description="node that saw it; empty when summed over nodes")
    subject: str = Field(description="what the episode is about; equal subjects continue one episode")
    attackers: tuple[Endpoint, ...] = Field((), description="most relevant first")
    victims: tuple[Endpoint, ...] = Field((), description="most relevant first")
    techniques: tuple[str, ...] = Field((), description="ATT&CK technique ids")
    evidence: tuple[Evidence, ...] = Field((), description="the main value first")
    summary: str = Field(description="one sentence with the values against their limits")
    spoofable: bool = Field(description="whether this evidence could have been sent under a false address")
    data_quality: DataQuality = Field(DataQuality(), description="of this tick alone")
    response: str | None = Field(None, description="default response action")
    quiet: int = Field(60, ge=1, description="s without a finding after which the episode closes")
