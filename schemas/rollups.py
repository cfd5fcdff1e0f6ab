"""Rollups: what stage 1 tells stage 2 about entities that span nodes.

One message per (stage-1 partition, rollup partition, tick), in parts where it would be large: each part holds some
of the entities, whole. All parts together say everything the sender has for that tick and partition, so they are also
the sender's watermark; a repeat is recognised by (sender, tick, part). Counters are sums over the tick; merging them is
integer addition, so order does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.events import MAX_NOTES, Column, Count, Name, Note
from schemas.events import Capability as _C
from schemas.framing import DecodeError, pack_frame, unpack_frame

MAGIC = b"SGR1"
_ADDRESS = pa.binary(16)
_NO = _C(0)


def _n(name: str, unit: str, meaning: str) -> Column:
    return Column(name, pa.int64(), unit, meaning, "0", _NO)


def _a(name: str, meaning: str) -> Column:
    return Column(name, _ADDRESS, "16 bytes, IPv4-mapped", meaning, "never", _NO)


def _r(meaning: str) -> Column:
    return Column("victim", pa.int32(), "row", f"{meaning}: row of this message's victim section", "never", _NO)


VICTIM = (
    _a("dst", "responder that connections were attempted to"),
    _n("attempts", "connections", "new TCP connections and QUIC flows"),
    _n("established", "connections", "of all, those whose handshake completed in this tick"),
    _n("exchanged", "connections", "those that have now carried payload both ways"),
    _n("refused", "connections", "those refused in this tick"),
    _n("unanswered", "connections", "those given up as unanswered in this tick"),
    _n("syn", "packets", "SYN without ACK towards it"),
    _n("packets", "packets", "towards it"),
    _n("bytes", "IP bytes", "towards it"),
    _n("top_port", "port", "most attempted port of the tick, the lowest of equals"),
    _n("top_port_attempts", "connections", "attempts on that port"),
)

VICTIM_FLOOD = (
    _r("victim of packets of floods in this tick; of others these are 0"),
    _n("udp_packets", "packets", "UDP towards it that it did not answer, other than answers of amplifiers"),
    _n("udp_flows", "flows", "of those packets, first seen"),
    _n("udp_senders", "addresses", "that sent them in this tick, by node"),
    _n("icmp_packets", "packets", "ICMP requests and unasked echo replies towards it"),
    _n("icmp_senders", "addresses", "that sent them in this tick, by node"),
    _n("reflected_packets", "packets", "UDP answers and SYN-ACKs towards it that it did not ask for"),
    _n("reflected_bytes", "IP bytes", "of those answers; SYN-ACKs count 40 each"),
    _n("reflectors", "addresses", "that sent them in this tick, by node"),
    _n("induced_questions", "packets", "questions in its name whose answers were at least ten times as large"),
    _n("induced_bytes", "IP bytes", "of the answers to them"),
    _n("induced_servers", "addresses", "that gave them in this tick, by node"),
    _n("reflector_port", "port", "service that most of the reflected or induced answers came from; 0: there were none"),
)

VICTIM_COPY = (
    _r("victim of whose packets its own node told copies in this tick, which are in none of its sums"),
    *(
        _n(column.name, column.unit, f"copies: {column.meaning}")
        for column in (*VICTIM, *VICTIM_FLOOD) if column.name not in ("dst", "top_port", "reflector_port", "victim")
    ),
)  # fmt: skip

VICTIM_SOURCE = (
    _r("victim with many attempts in this tick"),
    _a("src", "one of its most active sources of the tick"),
    _n("attempts", "connections", "by this source"),
    _n("established", "connections", "by this source"),
)

NEW_SOURCE = (
    _r("victim"),
    Column("src_hash", pa.uint64(), "", "a source seen for this victim for the first time in a while", "never", _NO),
)

FLOOD_SENDER = (
    _r("victim with many packets of a flood in this tick"),
    _a("src", "one of those who sent it the most in this tick"),
    _n("packets", "packets", "by this sender: unanswered UDP, ICMP or unasked answers"),
)

ENTRANCE = (
    _r("victim of many packets that prove no sender in this tick"),
    Column("node", pa.string(), "", "node that told them", "never", _NO),
    Column("interface", pa.string(), "", "by which they entered; empty: by others than the busiest", "", _NO),
    _a("pod", "of the pod behind the interface, as its node said; :: where it did not"),
    _n("packets", "packets", "towards the victim; no copies"),
)

IDENTITY = (
    Column("space", pa.string(), "", "key space that a rule asks for: victims by what", "never", _NO),
    Column("who", pa.string(), "", "pod, workload, namespace, Service or node; unknown: none", "never", _NO),
    *VICTIM[1:9],  # sums over connections
)  # fmt: skip

IDENTITY_SOURCE = (
    Column("identity", pa.int32(), "row", "row of this message's identity section", "never", _NO),
    Column("src_hash", pa.uint64(), "", "a source seen for one of its addresses for the first time in a while", "never",
           _NO),
)  # fmt: skip

WORKLOAD = (
    _a("address", "address of the workload's replica"),
    Column("node", pa.string(), "", "node that reported it", "never", _NO),
    _n("minute", "s since epoch", "end of the 60 s that the row sums"),
    _n("flows_out", "flows", "opened by it"),
    _n("flows_in", "flows", "opened towards it"),
    _n("bytes_out", "IP bytes", "sent by it"),
    _n("bytes_in", "IP bytes", "received by it"),
    _n("packets_out", "packets", "sent by it"),
    _n("packets_in", "packets", "received by it"),
    _n("peers_out", "addresses", "distinct responders it opened flows to"),
    _n("ports_out", "ports", "distinct responder ports it opened flows to"),
    _n("failed_out", "flows", "its flows that were refused or unanswered"),
    _n("dns_queries", "queries", "asked by it"),
    _n("dns_failures", "queries", "answered NXDOMAIN or SERVFAIL, or not at all"),
)

TALLY = (
    Column("measure", pa.string(), "", "what a detector of stage 2 counts", "never", _NO),
    Column("subject", pa.string(), "", "zone, server or workload that is judged", "never", _NO),
    _a("source", "who did it; :: where it is not told"),
    _a("target", "whom it was done to; :: where it is not told"),
    _n("port", "port", "of the target; with the protocol above it (<< 16) where that matters"),
    Column("object", pa.string(), "", "domain that was asked for, where it is about one", "", _NO),
    _n("amount", "", "how often in this tick"),
)

SECTIONS: dict[str, tuple[Column, ...]] = {
    "victim": VICTIM, "victim_flood": VICTIM_FLOOD, "victim_source": VICTIM_SOURCE, "new_source": NEW_SOURCE,
    "workload": WORKLOAD, "flood_sender": FLOOD_SENDER, "tally": TALLY, "victim_copy": VICTIM_COPY,
    "entrance": ENTRANCE, "identity": IDENTITY, "identity_source": IDENTITY_SOURCE,
}  # fmt: skip
# Sections with a column of row numbers, and the section that these point into; the column has its name.
POINTING = {
    "victim_flood": "victim", "victim_source": "victim", "new_source": "victim", "flood_sender": "victim",
    "victim_copy": "victim", "entrance": "victim", "identity_source": "identity",
}  # fmt: skip
SCHEMAS = {
    name: pa.schema([pa.field(c.name, c.dtype, nullable=False) for c in columns]) for name, columns in SECTIONS.items()
}


class RollupHeader(BaseModel):
    """Who says it, for which partition and tick, and how good the events behind it were."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1] = 1
    cluster: Annotated[str, Field(max_length=253)] = Field(description="cluster of the events; empty: none seen yet")
    sender: Annotated[int, Field(ge=0)] = Field(description="stage-1 partition")
    senders: Annotated[int, Field(ge=1)] = Field(description="stage-1 partitions in all")
    partition: Annotated[int, Field(ge=0)] = Field(description="rollup partition it is meant for")
    partitions: Annotated[int, Field(ge=1)] = Field(description="rollup partitions in all")
    kind: Literal["tick", "empty", "idle"] = Field(
        description="empty: the sender has read nothing yet; idle: it has had nothing to read for the silence time. "
        "Do not wait for it until it says a tick"
    )
    tick: Annotated[int, Field(ge=0, le=1 << 34)] = Field(
        description="tick that is complete with this, s since epoch; empty, idle: the last one that the sender has said"
    )
    part: Annotated[int, Field(ge=0)] = Field(0, description="number of this part of the tick; parts come in order")
    parts: Annotated[int, Field(ge=1)] = Field(
        1, description="how many parts the tick has; what is not said by sections is the same in each, and counts once"
    )
    idle: bool = Field(False, description="all nodes of the sender have ended; do not wait for it after this tick")
    capabilities: Count = Field(0, description="Capability bits that all sources had")
    sampling: Annotated[int, Field(ge=1, le=1 << 32)] = Field(
        1, description="one packet in N was seen, at the coarsest source"
    )
    lost_packets: Count = Field(0, description="dropped before parsing in this tick")
    lost_rows: Count = Field(0, description="rows shed by exporters in this tick")
    malformed: Count = Field(0, description="packets or messages that could not be parsed in this tick")
    late: Count = Field(0, description="seconds of nodes of which something late counts in this tick")
    lost_messages: Count = Field(0, description="messages of exporters that never came, noticed in this tick")
    restamped: Count = Field(0, description="seconds of nodes with a wrong clock, moved to the broker's time")
    silent_nodes: Count = Field(
        0, description="nodes that are not heard and not waited for; idle: those heard until the sender fell idle"
    )
    silent: Annotated[tuple[Name, ...], Field(max_length=16)] = Field(
        (), description="idle: names of such nodes, the first in order"
    )
    inventory: Annotated[int, Field(ge=0)] = Field(
        0, description="offset on inventory.v1 before which everything was known to the sender in this tick"
    )
    notes: Annotated[tuple[Note, ...], Field(max_length=MAX_NOTES)] = Field(
        (), description="what sources of this tick cannot know, in words"
    )
    suspects: Annotated[tuple[str, ...], Field(max_length=256)] = Field(
        (), description="addresses that stage-1 findings of this tick name; models do not learn from them"
    )


class RollupDecodeError(DecodeError):
    """A value that is no rollup message."""


@dataclass(frozen=True)
class RollupMessage:
    """One sender's tick for one rollup partition, or a part of it.

    ``appended_ms``: append time of its record, ms since epoch; none where it came by no broker.
    """

    header: RollupHeader
    batches: dict[str, pa.RecordBatch] = field(default_factory=dict)
    appended_ms: int | None = None

    @property
    def partition(self) -> int:
        """The rollup partition it must be sent to."""
        return self.header.partition

    def encode(self) -> bytes:
        """Return the bytes for rollups.v1."""
        ordered = {name: self.batches[name] for name in SECTIONS if name in self.batches}
        return pack_frame(MAGIC, self.header.model_dump(), ordered)


def decode_rollup(value: bytes) -> RollupMessage:
    """Read one value of rollups.v1.

    Raises:
        RollupDecodeError: anything is not as it must be.
    """
    if value[:4] != MAGIC:
        problem = f"not a rollup message: begins with {value[:4]!r}"
        raise RollupDecodeError(problem)
    try:
        header, batches = unpack_frame(value, SCHEMAS)
        _check_rows(batches)
        return RollupMessage(RollupHeader.model_validate(header), batches)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        problem = f"header.{'.'.join(str(p) for p in first['loc'])}: {first['msg']}"
        raise RollupDecodeError(problem) from None
    except DecodeError as error:
        raise RollupDecodeError(str(error)) from None


def _check_rows(batches: dict[str, pa.RecordBatch]) -> None:
    for name, target in POINTING.items():
        if name in batches:
            count = batches[target].num_rows if target in batches else 0
            rows = batches[name].column(target).to_numpy()
            if len(rows) and (rows.min() < 0 or rows.max() >= count):
                problem = f"batches.{name}.{target} points outside the {count} rows of batches.{target}"
                raise DecodeError(problem)
