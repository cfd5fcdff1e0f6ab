"""Settings of the exporter; every limit, time-out and size with unit, default and reason."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork, model_validator

from exporter.inventory.settings import InventorySettings

_FROZEN = ConfigDict(frozen=True, extra="forbid")

Patterns = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=64)], ...], Field(max_length=64)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]


class ReadingSettings(BaseModel):
    """How capture files are read."""

    model_config = _FROZEN

    block_bytes: Annotated[int, Field(ge=1 << 10, le=1 << 28)] = Field(
        8 << 20, description="bytes read at once from a large file; more costs memory, less costs speed"
    )
    sort_bytes: Annotated[int, Field(ge=0, le=1 << 30)] = Field(
        64 << 20,
        description="files up to this many bytes (uncompressed) are read whole and sorted by time, "
        "because merged captures are often out of order; larger ones stream in file order",
    )
    chunk_packets: Annotated[int, Field(ge=1, le=1 << 20)] = Field(
        32_768, description="packets decoded at once; rows do not depend on it"
    )
    max_packet_bytes: Annotated[int, Field(ge=1 << 16, le=1 << 26)] = Field(
        1 << 20, description="a record longer than this (bytes) means a damaged file; tcpdump's own limit is 262,144"
    )
    sort_records: Annotated[int, Field(ge=1, le=1 << 20)] = Field(
        65_536, description="rows of a flow log kept back (about 500 bytes each) to bring later lines into their place "
        "in time; a log of up to twice as many rows is sorted whole"
    )  # fmt: skip
    line_bytes: Annotated[int, Field(ge=1 << 10, le=1 << 24)] = Field(
        1 << 20, description="a longer line of a flow log is left out and counted as malformed"
    )
    document_bytes: Annotated[int, Field(ge=1 << 16, le=1 << 28)] = Field(
        64 << 20, description="a flow log that is one JSON document, not lines, is read whole up to this many bytes"
    )
    drain_seconds: Annotated[int, Field(ge=0, le=86_400)] = Field(
        60, description="s the clock runs on after the last packet, so that time-outs fire at their proper cuts"
    )


class FlowSettings(BaseModel):
    """Life of a flow, in event time."""

    model_config = _FROZEN

    capacity: Annotated[int, Field(ge=16, le=1 << 22)] = Field(
        1 << 18, description="flows tracked at once (about 350 bytes each); packets of others are counted as lost"
    )
    unanswered_seconds: Seconds = Field(3, description="s without an answer until a flow is marked unanswered")
    udp_idle_seconds: Seconds = Field(30, description="s of quiet that end a flow that is not TCP")
    tcp_idle_seconds: Seconds = Field(
        300, description="s of quiet that end a TCP flow; longer than the usual 60-120 s keep-alives of applications"
    )
    half_open_seconds: Seconds = Field(
        30, description="s of quiet that end an unanswered TCP attempt; spans the first five SYN repeats (1 to 16 s)"
    )
    linger_seconds: Seconds = Field(
        5, description="s that a closed TCP flow still collects stray packets instead of opening a new one"
    )
    pressure_percent: Annotated[int, Field(ge=10, le=100)] = Field(
        75, description="% of capacity above which unanswered and closed flows are let go at once"
    )
    reopens_per_second: Annotated[int, Field(ge=1, le=64)] = Field(
        8, description="times the same endpoints may open a new flow within one second; repeats after that "
        "count to the last one, so that a flood from one port cannot make a row per packet"
    )  # fmt: skip
    report_packets: Annotated[int, Field(ge=1)] = Field(
        1000, description="packets gained that send a row at the next cut"
    )
    report_bytes: Annotated[int, Field(ge=1)] = Field(
        1_000_000, description="bytes gained that send a row at the next cut"
    )
    report_seconds: Seconds = Field(60, description="s after which a flow that gained anything is reported anyway")
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = Field(
        0, description="of the flow hash; give each deployment its own so that collisions cannot be prepared"
    )


class DnsSettings(BaseModel):
    """Pairing of DNS questions and answers."""

    model_config = _FROZEN

    ports: Annotated[tuple[Annotated[int, Field(ge=1, le=65_535)], ...], Field(min_length=1, max_length=16)] = Field(
        (53,), description="server ports that carry DNS"
    )
    answer_seconds: Seconds = Field(5, description="s until a question counts as unanswered; resolvers retry after 5 s")
    pending: Annotated[int, Field(ge=16, le=1 << 20)] = Field(
        32_768, description="questions remembered at once; the oldest leaves early as unanswered"
    )
    answers_per_message: Annotated[int, Field(ge=1, le=1024)] = Field(
        64, description="answer records reported of one message; more are counted in `records` only"
    )
    streams: Annotated[int, Field(ge=1, le=1 << 16)] = Field(
        1024, description="TCP directions whose messages are put together at once (up to 64 KiB each)"
    )


class HeadSettings(BaseModel):
    """Reading of TLS handshakes and HTTP heads."""

    model_config = _FROZEN

    flows: Annotated[int, Field(ge=16, le=1 << 20)] = Field(
        8192, description="flows followed at once; the one that was quiet longest is let go, counted as a lost row"
    )
    held_bytes: Annotated[int, Field(ge=1 << 16, le=1 << 30)] = Field(
        32 << 20, description="bytes of unfinished heads kept at once, all flows together; let go likewise"
    )
    packets_per_second: Annotated[int, Field(ge=16, le=1 << 20)] = Field(
        10_000, description="packets of handshakes and heads read in one second of packet time; a hello costs up to "
        "85 µs of CPU; what a flood of them has above that is counted as lost rows"
    )  # fmt: skip
    tls_bytes: Annotated[int, Field(ge=1 << 10, le=1 << 18)] = Field(
        32_768, description="bytes of one direction in which hello and leaf certificate must stand; "
        "hellos with post-quantum keys have 2 KiB, leaves with many names 10"
    )  # fmt: skip
    http_bytes: Annotated[int, Field(ge=1 << 10, le=1 << 18)] = Field(
        16_384, description="bytes in which a head must end; servers refuse longer ones (usually at 8 KiB)"
    )
    hello_seconds: Seconds = Field(10, description="s after a client hello until its row leaves without an answer")
    head_seconds: Seconds = Field(
        10, description="s until a request head that does not end is reported as incomplete; servers wait 20 to 60 s, "
        "so the row comes while the connection still holds a worker"
    )  # fmt: skip
    answer_seconds: Seconds = Field(
        30, description="s until a request's row leaves without a status; slow answers are known by the flow rows"
    )


class CutSettings(BaseModel):
    """How rows become messages."""

    model_config = _FROZEN

    part_rows: Annotated[int, Field(ge=1, le=65_536)] = Field(
        2000, description="rows of one kind in a message; a busier second is split into parts"
    )
    part_bytes: Annotated[int, Field(ge=1 << 14, le=2 << 20)] = Field(
        1 << 20, description="bytes of a message; rows with long texts are split into more parts, because brokers "
        "refuse messages above a limit"
    )  # fmt: skip
    second_rows: Annotated[int, Field(ge=1, le=1 << 22)] = Field(
        1 << 18, description="rows of one kind in one second; more are shed and counted"
    )


class PacketSettings(BaseModel):
    """The source of live packets."""

    model_config = _FROZEN

    pods: Patterns = Field(
        ("*",), description="interfaces of pods, by name (shell patterns): of those whose other end is in another "
        "network namespace (veth, netkit), as pods and containers have them"
    )  # fmt: skip
    uplinks: Patterns = Field(
        (), description="interfaces to the rest of the network, by name (shell patterns); what enters from outside is "
        "seen there; none: only what pods send and receive"
    )  # fmt: skip
    cluster_networks: tuple[IPvAnyNetwork, ...] = Field(
        (), max_length=64, description="networks of the cluster's pods and nodes: flows that come from them by an "
        "uplink are reported by their own node; empty: everything that comes by an uplink is from outside"
    )  # fmt: skip
    ring_bytes: Annotated[int, Field(ge=1 << 18, le=1 << 30)] = Field(
        16 << 20, description="memory that the kernel writes packets into; 16 MiB hold about 70,000 small packets, a "
        "third of a second at 200,000 packets/s"
    )  # fmt: skip
    block_bytes: Annotated[int, Field(ge=1 << 16, le=1 << 22, multiple_of=1 << 16)] = Field(
        128 << 10, description="part of the ring that is handed over at once"
    )
    rings: Annotated[int, Field(ge=1, le=16)] = Field(
        1, description="rings of that size, packets spread over them by flow: more where several CPUs receive at once"
    )
    retire_ms: Annotated[int, Field(ge=1, le=80)] = Field(
        50, description="ms until a block that is not full is handed over; below the grace of a cut"
    )
    header_bytes: Annotated[int, Field(ge=128, le=2048)] = Field(
        192, description="bytes kept of packets of which only headers and first payload bytes matter"
    )
    head_bytes: Annotated[int, Field(ge=256, le=32_768)] = Field(
        4096, description="bytes kept of DNS, DHCP and ARP, and of what begins a TLS handshake or an HTTP head"
    )
    resync_seconds: Annotated[int, Field(ge=0, le=300)] = Field(
        2, description="s after the start in which UDP and other flows without a handshake are taken for older ones, "
        "so that a restart does not report them as new; TCP flows need a SYN to count as new for tcp_idle_seconds"
    )  # fmt: skip

    @model_validator(mode="after")
    def _ring_has_blocks(self) -> Self:
        if self.ring_bytes < 2 * self.block_bytes:
            message = "ring_bytes must be at least twice block_bytes"
            raise ValueError(message)
        return self


class ConntrackSettings(BaseModel):
    """The source of tracked connections."""

    model_config = _FROZEN

    translations: Annotated[int, Field(ge=1024, le=1 << 22)] = Field(
        65_536, description="translated connections known at once; the kernel tracks 262,144 of all kinds by default; "
        "of more, the new ones are reported without translation, and counted"
    )  # fmt: skip
    connections: Annotated[int, Field(ge=1024, le=1 << 22)] = Field(
        262_144, description="connections followed at once where packets are not captured; as many as the kernel tracks"
    )
    relist_seconds: Annotated[int, Field(ge=10, le=86_400)] = Field(
        300, description="s after which all connections are listed again: the kernel does not tell the end of those "
        "that are older than the exporter (net.netfilter.nf_conntrack_events is 2 by default)"
    )  # fmt: skip
    pod_networks: tuple[IPvAnyNetwork, ...] = Field(
        (), max_length=64, description="networks of this node's own pods, where packets are not captured: only what "
        "begins there, on the node itself or outside packets.cluster_networks is this node's to report"
    )  # fmt: skip


class HostSettings(BaseModel):
    """The source of the node's interfaces and sockets."""

    model_config = _FROZEN

    repeat_seconds: Annotated[int, Field(ge=10, le=86_400)] = Field(
        600, description="s after which a promiscuous interface or a packet socket that is still there is told again"
    )
    listener_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        60, description="s within which the listeners of each network namespace are looked at once; each look has the "
        "kernel walk through the places of all connections, some ms of CPU"
    )  # fmt: skip


class LiveSettings(BaseModel):
    """The clock of a live exporter, and what it keeps while the broker is away."""

    model_config = _FROZEN

    grace_ms: Annotated[int, Field(ge=20, le=1000)] = Field(
        100, description="ms after the end of a second until it is closed; packets are handed over within retire_ms"
    )
    collect_ms: Annotated[int, Field(ge=10, le=1000)] = Field(
        100, description="ms between two looks at what has come; fewer cost CPU, more need a larger ring"
    )
    memory_bytes: Annotated[int, Field(ge=1 << 16, le=1 << 30)] = Field(
        8 << 20, description="messages kept in memory while the broker does not take them"
    )
    spool: Path | None = Field(
        None, description="folder for messages that memory has no room for, and for those left at the end; "
        "none: they are dropped and counted"
    )  # fmt: skip
    spool_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 40)] = Field(
        256 << 20, description="most that the spool may hold; above it the oldest messages are dropped and counted"
    )
    stop_seconds: Annotated[int, Field(ge=0, le=300)] = Field(
        5, description="s that an exporter that was told to end waits for the broker; then the rest goes to the spool"
    )


class ExporterSettings(BaseModel):
    """All settings of the exporter."""

    model_config = _FROZEN

    reading: ReadingSettings = ReadingSettings()
    flow: FlowSettings = FlowSettings()
    dns: DnsSettings = DnsSettings()
    heads: HeadSettings = HeadSettings()
    cut: CutSettings = CutSettings()
    inventory: InventorySettings = InventorySettings()
    packets: PacketSettings = PacketSettings()
    conntrack: ConntrackSettings = ConntrackSettings()
    host: HostSettings = HostSettings()
    live: LiveSettings = LiveSettings()
