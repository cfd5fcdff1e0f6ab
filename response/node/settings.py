"""Settings of what is enforced on nodes: the agent's bounds, and how the responder commands it."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _block(text: str) -> str:
    return str(ip_network(text))


Block = Annotated[str, AfterValidator(_block)]


class NodeAgentSettings(BaseModel):
    """What the agent of a node obeys, and where it stops obeying. Read by `sluicegate node-agent` alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    public_keys_file: Path | None = Field(
        None, description="YAML of key id to person and public_key: the responder's key alone, not the operators'"
    )
    max_entries: int = Field(
        1024, ge=1, le=16_384, description="cuts and limits at once; more is refused. About 200 B each in the kernel"
    )
    max_timeout_s: int = Field(
        604_800, ge=60, le=604_800, description="s an entry may last; a week is the last step of escalation"
    )
    widest_ipv4: int = Field(32, ge=8, le=32, description="shortest prefix of an IPv4 block that may be cut; 32: hosts")
    widest_ipv6: int = Field(
        64, ge=16, le=128, description="shortest prefix of an IPv6 block; 64: a host may take any address of its own"
    )
    lowest_per_source: int = Field(
        5, ge=1, description="new connections/s; a limit of each source below it is refused: that would be a cut"
    )
    lowest_in_all: int = Field(
        50, ge=1, description="new connections/s; a limit of all together below it is refused, for the same reason"
    )
    never: tuple[Block, ...] = Field(
        (),
        description="Addresses and blocks that no command may touch: DNS servers, API servers, nodes. The node's own "
        "addresses, its resolvers and KUBERNETES_SERVICE_HOST are always among them",
    )
    sources_per_limit: int = Field(
        16_384, ge=64, le=1_048_576, description="sources that one limit tells apart; the rest only count in all"
    )
    bridge: bool = Field(
        True, description="a second table for traffic between pods on one bridge, which other hooks may not see"
    )
    bypass: Literal["refuse", "ignore"] = Field(
        "refuse", description="what to do where an eBPF dataplane or a flowtable carries packets past the tables"
    )
    stop: Literal["keep", "remove"] = Field(
        "keep", description="what SIGTERM leaves: a restart must not open what is cut, and entries expire by themselves"
    )
    capture_dir: Path | None = Field(
        None, description="directory of captures, readable by its owner only; without it every capture is refused. The"
        " agent needs CAP_NET_RAW for them"
    )  # fmt: skip
    capture_packets: int = Field(100_000, ge=1, le=1_000_000, description="packets that one capture may have")
    capture_bytes: int = Field(64 << 20, ge=4096, le=1 << 30, description="bytes that the file of one may have")
    capture_s: int = Field(300, ge=1, le=3600, description="s that one may take")
    capture_room: int = Field(
        1 << 30, ge=4096, description="bytes that all files in capture_dir may have together; what might be more is"
        " refused, and nothing is deleted to make room: it is evidence",
    )  # fmt: skip
    interval_s: float = Field(10.0, gt=0, le=300, description="s between looks at the tables: repair, counters, report")
    refusals_per_minute: int = Field(
        60, ge=1, le=6000, description="refusals told on actions.v1; the rest are counted, so that nobody floods it"
    )


class NodeStepSettings(BaseModel):
    """How the responder plans and commands what nodes do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(
        False, description="plan rate_limit and cut_on_node: needs agents on the nodes and the key below"
    )
    private_key_file: Path | None = Field(
        None, description="PEM of the Ed25519 key that signs commands to nodes; readable by its owner only"
    )
    key_id: str = Field("", max_length=64, description="name of that key in node_agent.public_keys_file")
    per_source: int = Field(
        20, ge=1, description="new connections/s that rate_limit leaves to one source; above a browser's burst"
    )
    in_all: int = Field(500, ge=1, description="new connections/s that it leaves to all sources of a port together")
    capture_packets: int = Field(10_000, ge=1, le=1_000_000, description="packets that capture_traffic asks for")
    capture_bytes: int = Field(16 << 20, ge=4096, le=1 << 30, description="bytes that its file may have")
    capture_s: int = Field(60, ge=1, le=3600, description="s that it lasts at most")
    answer_s: float = Field(
        5.0, gt=0, le=60, description="s to wait for the agent's report before a step counts as failed"
    )
