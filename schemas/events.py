"""The event message: one node's second as a header and one Arrow batch per kind of row.

Each kind is a tuple of ``Column``; the Arrow schema, the JSON Schema and ``docs/schemas.md`` are all
made from these. Times are nanoseconds since the Unix epoch in UTC (int64). Counters of a flow row
are deltas since the flow's last row.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

ADDRESS = pa.dictionary(pa.int32(), pa.binary(16))
WORD = pa.dictionary(pa.int32(), pa.string())
MAX_TEXT = 512
MAX_CUT = 1 << 33  # s since epoch; nanoseconds of a second up to it fit 64 bits


class Capability(IntFlag):
    """What a source can fill; a detector that needs a missing bit says once that it is blind."""

    PACKETS = 1  # packet and IP byte counts
    REVERSE = 2  # both directions of a conversation
    TCP_FLAGS = 4  # SYN, SYN-ACK, FIN, RST counts and the OR of flags
    PAYLOAD = 8  # payload bytes and first payload direction
    ATTEMPTS = 16  # refused, unanswered and odd-flag attempts, also those that policy drops
    PORTS = 32  # both ports
    ICMP = 64  # ICMP type, code, id
    TTL = 128
    BURSTS = 256  # gap statistics inside one flow
    NAT = 512  # pre-DNAT and post-SNAT endpoints
    VERDICT = 1024  # allowed or denied, and by which policy
    DNS = 2048  # DNS questions
    DNS_ANSWERS = 4096  # every answer with type, data and TTL
    DNS_LATENCY = 8192
    ARP = 16384
    DHCP = 32768
    ICMP_CLAIMS = 65536  # redirects and router advertisements
    HOST = 131072  # promiscuous mode, packet sockets, listeners
    TLS = 262144
    HTTP = 524288
    INTERFACES = 1048576  # which interface a packet entered by
    EXACT_TIME = 2097152  # start and end of flows, not only their export time


CAPTURE_CAPABILITIES = (
    Capability.PACKETS | Capability.REVERSE | Capability.TCP_FLAGS | Capability.PAYLOAD | Capability.ATTEMPTS
    | Capability.PORTS | Capability.ICMP | Capability.TTL | Capability.BURSTS | Capability.DNS
    | Capability.DNS_ANSWERS | Capability.DNS_LATENCY | Capability.ARP | Capability.DHCP | Capability.ICMP_CLAIMS
    | Capability.TLS | Capability.HTTP | Capability.EXACT_TIME
)  # fmt: skip


class FlowMark(IntFlag):
    """Things that happen once in a flow's life; set in the one row that reports them."""

    OPENED = 1  # an attempt was first seen; not set where a flow was joined midway or only its answers are seen
    ESTABLISHED = 2  # TCP handshake completed; other protocols: first answer
    REFUSED = 4  # answered by RST or ICMP unreachable before it was established
    UNANSWERED = 8  # no answer within the unanswered time-out
    CLOSED = 16  # ended (FIN both ways, RST, idle time-out, end of data); totals are filled
    EXCHANGED = 32  # payload has been seen both ways


class Verdict:
    """Values of the flow column ``verdict``."""

    UNKNOWN = 0
    ALLOWED = 1
    DENIED = 2


class PayloadSide:
    """Values of the flow column ``first_payload``."""

    NONE = 0
    INITIATOR = 1
    RESPONDER = 2


@dataclass(frozen=True)
class Column:
    """One column: dtype, unit, meaning, the value that stands for "absent", and who can fill it."""

    name: str
    dtype: pa.DataType
    unit: str
    meaning: str
    absent: str
    needs: Capability


_C = Capability
_ALL = Capability(0)


def _address(name: str, meaning: str, needs: Capability = _ALL, absent: str = "never") -> Column:
    return Column(name, ADDRESS, "16 bytes, IPv4-mapped", meaning, absent, needs)


def _time(name: str, meaning: str, needs: Capability = _ALL) -> Column:
    return Column(name, pa.int64(), "ns since epoch", meaning, "never", needs)


def _count(name: str, unit: str, meaning: str, needs: Capability) -> Column:
    return Column(name, pa.int64(), unit, meaning, "0", needs)


FLOW: tuple[Column, ...] = (
    Column("flow_id", pa.uint64(), "", "stable through a flow's life: hash of node, endpoints and start", "never", _ALL),
    _time("conn_start", "first packet of the flow"),
    _time("start", "first packet that this row counts"),
    _time("end", "last packet that this row counts"),
    _address("src", "initiator"),
    _address("dst", "responder"),
    Column("src_port", pa.uint16(), "", "initiator's port; ICMP: 0", "0", _C.PORTS),
    Column("dst_port", pa.uint16(), "", "responder's port; ICMP: 0", "0", _C.PORTS),
    Column("proto", pa.uint8(), "IANA number", "IP protocol after extension headers", "never", _ALL),
    _address("orig_dst", "destination before DNAT", _C.NAT, "all zero"),
    Column("orig_dst_port", pa.uint16(), "", "port before DNAT", "0", _C.NAT),
    _address("nat_src", "source after SNAT", _C.NAT, "all zero"),
    Column("nat_src_port", pa.uint16(), "", "port after SNAT", "0", _C.NAT),
    _count("src_packets", "packets", "sent by the initiator", _C.PACKETS),
    _count("dst_packets", "packets", "sent by the responder", _C.PACKETS | _C.REVERSE),
    _count("src_bytes", "bytes", "IP bytes sent by the initiator", _C.PACKETS),
    _count("dst_bytes", "bytes", "IP bytes sent by the responder", _C.PACKETS | _C.REVERSE),
    _count("src_payload", "bytes", "transport payload sent by the initiator", _C.PAYLOAD),
    _count("dst_payload", "bytes", "transport payload sent by the responder", _C.PAYLOAD | _C.REVERSE),
    _count("src_syn", "packets", "SYN without ACK by the initiator", _C.TCP_FLAGS),
    _count("dst_synack", "packets", "SYN with ACK by the responder", _C.TCP_FLAGS | _C.REVERSE),
    _count("src_fin", "packets", "FIN by the initiator", _C.TCP_FLAGS),
    _count("dst_fin", "packets", "FIN by the responder", _C.TCP_FLAGS | _C.REVERSE),
    _count("src_rst", "packets", "RST by the initiator", _C.TCP_FLAGS),
    _count("dst_rst", "packets", "RST by the responder", _C.TCP_FLAGS | _C.REVERSE),
    Column("src_flags", pa.uint8(), "bit set", "OR of the initiator's TCP flags; 0 with packets is a NULL probe", "0", _C.TCP_FLAGS),
    Column("dst_flags", pa.uint8(), "bit set", "OR of the responder's TCP flags", "0", _C.TCP_FLAGS | _C.REVERSE),
    Column("marks", pa.uint8(), "FlowMark bits", "once-only events that this row reports", "0", _ALL),
    _count("total_src_packets", "packets", "lifetime, on the closing row only", _C.PACKETS),
    _count("total_dst_packets", "packets", "lifetime, on the closing row only", _C.PACKETS | _C.REVERSE),
    _count("total_src_bytes", "bytes", "lifetime, on the closing row only", _C.PACKETS),
    _count("total_dst_bytes", "bytes", "lifetime, on the closing row only", _C.PACKETS | _C.REVERSE),
    _count("total_src_payload", "bytes", "lifetime, on the closing row only", _C.PAYLOAD),
    _count("total_dst_payload", "bytes", "lifetime, on the closing row only", _C.PAYLOAD | _C.REVERSE),
    Column("first_payload", pa.uint8(), "PayloadSide", "who sent payload first in the flow's life", "0", _C.PAYLOAD),
    Column("bursts", pa.uint32(), "bursts", "groups of packets separated by at least 1 s of quiet that began", "0", _C.BURSTS),
    Column("burst_gap_sum", pa.int64(), "ms", "sum of the quiet gaps before those bursts", "0", _C.BURSTS),
    Column("burst_gap_squares", pa.int64(), "ms²", "sum of squares of those gaps", "0", _C.BURSTS),
    Column("icmp_type", pa.uint8(), "", "of the initiator's first packet", "0", _C.ICMP),
    Column("icmp_code", pa.uint8(), "", "of the initiator's first packet", "0", _C.ICMP),
    Column("icmp_id", pa.uint16(), "", "echo identifier", "0", _C.ICMP),
    Column("ttl_min", pa.uint8(), "hops", "smallest TTL of the initiator's packets", "0", _C.TTL),
    Column("ttl_max", pa.uint8(), "hops", "largest TTL of the initiator's packets", "0", _C.TTL),
    Column("interface", WORD, "", "interface by which the initiator's first packet entered", "empty", _C.INTERFACES),
    Column("vlan", pa.uint16(), "", "outer VLAN id", "0", _ALL),
    Column("vni", pa.uint32(), "", "VXLAN or Geneve network id", "0", _ALL),
    Column("src_mac", pa.uint64(), "48 bits", "Ethernet source of the initiator's first packet", "0", _ALL),
    Column("app", WORD, "", "application guessed from first payload bytes", "empty", _C.PAYLOAD),
    Column("verdict", pa.uint8(), "Verdict", "what policy decided", "0", _C.VERDICT),
    Column("policy", WORD, "", "policy that decided", "empty", _C.VERDICT),
    Column("direction_known", pa.bool_(), "", "false: the initiator was guessed", "never", _ALL),
    Column("copy", pa.bool_(), "", "also reported by another node; only victim-keyed features count it", "never", _ALL),
)  # fmt: skip

DNS: tuple[Column, ...] = (
    _time("time", "the query; the answer where no query was seen", _C.DNS),
    _address("client", "asker", _C.DNS),
    Column("client_port", pa.uint16(), "", "asker's port", "0", _C.DNS),
    _address("server", "resolver or authority asked", _C.DNS),
    Column("transport", pa.uint8(), "IANA number", "6 TCP, 17 UDP", "never", _C.DNS),
    Column("id", pa.uint16(), "", "DNS message id", "0", _C.DNS),
    Column("qname", WORD, "", "name asked, lower case, no final dot; bytes outside printable ASCII as \\DDD", "empty", _C.DNS),
    Column("qtype", pa.uint16(), "IANA number", "type asked", "0", _C.DNS),
    Column("edns_size", pa.uint16(), "bytes", "asker's EDNS buffer size", "0", _C.DNS),
    Column("rcode", pa.int16(), "IANA number", "answer code", "-1", _C.DNS_ANSWERS),
    Column("flags", pa.uint16(), "bit set", "header flags of the answer, else of the query", "0", _C.DNS),
    Column("answer_number", pa.uint16(), "", "1, 2, ... over all answers to one query; 0: none came", "0", _C.DNS_ANSWERS),
    Column("record_type", pa.uint16(), "IANA number", "type of this answer record", "0", _C.DNS_ANSWERS),
    Column("record_data", WORD, "", "answer record: address, name, or text; at most 512 characters", "empty", _C.DNS_ANSWERS),
    Column("ttl", pa.uint32(), "s", "of this answer record", "0", _C.DNS_ANSWERS),
    Column("records", pa.uint16(), "records", "answer records in the message", "0", _C.DNS_ANSWERS),
    Column("unsolicited", pa.bool_(), "", "no query of this client was waiting for it", "never", _C.DNS_ANSWERS),
    Column("query_bytes", pa.uint32(), "bytes", "DNS message, on a query's first row only", "0", _C.DNS),
    Column("answer_bytes", pa.uint32(), "bytes", "DNS message, on an answer's first row only", "0", _C.DNS_ANSWERS),
    Column("latency", pa.int64(), "ns", "answer minus query", "-1", _C.DNS_LATENCY),
)  # fmt: skip


class LinkClaim:
    """Values of the link column ``claim``."""

    ARP_REQUEST = 1
    ARP_REPLY = 2
    DHCP_DISCOVER = 10
    DHCP_OFFER = 11
    DHCP_REQUEST = 12
    DHCP_ACK = 13
    DHCP_NAK = 14
    DHCP_RELEASE = 15
    DHCP_INFORM = 16
    DHCP_DECLINE = 17
    ICMP_REDIRECT = 20
    ROUTER_ADVERTISEMENT = 21
    NEIGHBOUR_SOLICITATION = 22
    NEIGHBOUR_ADVERTISEMENT = 23
    PROMISCUOUS = 30
    PACKET_SOCKET = 31
    LISTENER = 32
    INTERFACE_ADDED = 33
    INTERFACE_REMOVED = 34
    INTERFACE_MOVED = 35  # to another bridge, or to none
    POD_INTERFACE = 36  # a state: the pod with the claimed address is behind it


LINK: tuple[Column, ...] = (
    _time("time", "when the claim was seen"),
    Column("claim", pa.uint8(), "LinkClaim", "kind of claim", "never", _ALL),
    Column("mac", pa.uint64(), "48 bits", "Ethernet source of the frame", "0", _C.ARP),
    Column("destination_mac", pa.uint64(), "48 bits", "Ethernet destination of the frame", "0", _C.ARP),
    Column("claimed_mac", pa.uint64(), "48 bits", "hardware address that the claim names", "0", _C.ARP),
    _address("claimed", "address that the claim is about: ARP or neighbour sender, DHCP lease given or asked for, advertised router, "
             "redirected destination", _C.ARP, "all zero"),
    _address("target", "address asked for or told: ARP or neighbour target, DHCP client's own address, redirect's gateway", _C.ARP, "all zero"),
    _address("speaker", "IP source of the frame, where it has one", _C.DHCP, "all zero"),
    Column("number", pa.uint32(), "", "DHCP transaction, RA lifetime (s), listener port, interface number", "0", _C.DHCP),
    Column("text", WORD, "", "DHCP host name or vendor class, socket owner, interface kind and bridge", "empty", _C.DHCP),
    Column("interface", WORD, "", "interface that it was seen on", "empty", _C.INTERFACES),
    Column("vlan", pa.uint16(), "", "outer VLAN id", "0", _ALL),
)  # fmt: skip

TLS: tuple[Column, ...] = (
    Column("flow_id", pa.uint64(), "", "the flow row's id", "never", _C.TLS),
    _time("time", "client hello; certificate where no hello was seen", _C.TLS),
    _address("src", "client", _C.TLS),
    _address("dst", "server", _C.TLS),
    Column("src_port", pa.uint16(), "", "client's port", "0", _C.TLS),
    Column("dst_port", pa.uint16(), "", "server's port", "0", _C.TLS),
    Column("sni", WORD, "", "server name asked for", "empty", _C.TLS),
    Column("alpn", WORD, "", "first protocol offered", "empty", _C.TLS),
    Column("client_version", pa.uint16(), "wire value", "highest version offered", "0", _C.TLS),
    Column("server_version", pa.uint16(), "wire value", "version chosen", "0", _C.TLS),
    Column("cipher", pa.uint16(), "IANA number", "suite chosen", "0", _C.TLS),
    Column("ja4", WORD, "", "JA4 fingerprint of the client hello", "empty", _C.TLS),
    Column("certificate", WORD, "hex", "SHA-256 of the server's leaf certificate, where visible", "empty", _C.TLS),
    Column("issuer", WORD, "", "its issuer's common name", "empty", _C.TLS),
    Column("not_before", pa.int64(), "ns since epoch", "certificate validity", "0", _C.TLS),
    Column("not_after", pa.int64(), "ns since epoch", "certificate validity", "0", _C.TLS),
)  # fmt: skip

HTTP: tuple[Column, ...] = (
    Column("flow_id", pa.uint64(), "", "the flow row's id", "never", _C.HTTP),
    _time("time", "first byte of the request head", _C.HTTP),
    _address("src", "client", _C.HTTP),
    _address("dst", "server", _C.HTTP),
    Column("src_port", pa.uint16(), "", "client's port", "0", _C.HTTP),
    Column("dst_port", pa.uint16(), "", "server's port", "0", _C.HTTP),
    Column("method", WORD, "", "request method", "empty", _C.HTTP),
    Column("host", WORD, "", "Host header", "empty", _C.HTTP),
    Column("path_shape", WORD, "", "path with digits and long words folded, no query values", "empty", _C.HTTP),
    Column("status", pa.uint16(), "", "answer status", "0", _C.HTTP),
    Column("head_complete", pa.bool_(), "", "the request head ended", "never", _C.HTTP),
    Column("credentials", pa.bool_(), "", "credentials were sent (their value never is)", "never", _C.HTTP),
)  # fmt: skip

KINDS: dict[str, tuple[Column, ...]] = {"flow": FLOW, "dns": DNS, "link": LINK, "tls": TLS, "http": HTTP}


def arrow_schema(kind: str) -> pa.Schema:
    """Return the Arrow schema of a kind; every field is non-nullable.

    Raises:
        KeyError: no such kind.
    """
    return _SCHEMAS[kind]


_SCHEMAS = {
    kind: pa.schema([pa.field(c.name, c.dtype, nullable=False) for c in columns]) for kind, columns in KINDS.items()
}

Name = Annotated[str, Field(min_length=1, max_length=253)]
MAX_NOTE = 200
Note = Annotated[str, Field(min_length=1, max_length=MAX_NOTE)]
MAX_NOTES = 6
# So bounded that sums over many messages fit 64 bits.
Count = Annotated[int, Field(ge=0, le=1 << 48)]


class EventHeader(BaseModel):
    """What one message says about itself.

    (``exporter``, ``boot``, ``sequence``) identifies a message: repeats are dropped, gaps are losses.
    A message without rows is a heartbeat. The cut is the event time of every row.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1] = 1
    cluster: Name = Field(description="cluster that the node belongs to")
    node: Name = Field(description="node whose second this is")
    exporter: Name = Field(description="exporter's name, unique on its node")
    boot: Annotated[str, Field(min_length=1, max_length=64)] = Field(description="new at each exporter start")
    sequence: Count = Field(description="counts this boot's messages from 0")
    # Later seconds do not fit a row's times in ns.
    cut: Annotated[int, Field(ge=0, le=MAX_CUT)] = Field(description="end of the second, s since epoch (UTC)")
    part: Annotated[int, Field(ge=0, lt=4096)] = Field(0, description="part of the second, from 0")
    parts: Annotated[int, Field(ge=1, le=4096)] = Field(1, description="parts that the second was split into")
    source: Name = Field(description="where rows come from: capture, packets, conntrack, ...")
    capabilities: Count = Field(description="Capability bits of the source")
    clock: Literal["live", "capture"] = Field("live", description="capture: exempt from skew and silence rules")
    sampling: Annotated[int, Field(ge=1, le=1 << 32)] = Field(1, description="one packet in N was seen")
    sent_at: Annotated[int, Field(ge=0, le=(1 << 63) - 1)] = Field(
        0,
        description="when it was handed to the broker's client, ns since epoch, by the clock that made the cut; "
        "0: not live, so its clock is not judged",
    )
    lost_packets: Count = Field(0, description="dropped before parsing since the last message")
    lost_rows: Count = Field(0, description="rows shed by the exporter since the last message")
    malformed: Count = Field(0, description="packets or messages that could not be parsed")
    final: bool = Field(False, description="the exporter ends here on purpose")
    notes: Annotated[tuple[Note, ...], Field(max_length=MAX_NOTES)] = Field(
        (), description="what the source cannot know, in words; alerts repeat it in their data quality"
    )
