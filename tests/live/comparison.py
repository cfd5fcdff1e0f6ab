"""What exporters told of connections, beside what clients and servers counted themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.event_codec import EventMessage, batch_to_rows
from schemas.events import FlowMark
from schemas.identity import IdentityTable
from tests.lab.connections import Counted
from tests.lab.two_nodes import BY_ADDRESS, NODE_PORT, NODES, OUTSIDE4, PORT, SERVICE_PORT

KINDS = ("same node", "other node", "Service", "NodePort", "from outside", "to outside")
Endpoints = tuple[str, int, str, int]
# What servers counted (own port, payload of the initiator and of the responder) by whom they saw and their address.
Served = dict[tuple[str, int, str], list[tuple[int, int, int]]]


@dataclass
class Told:
    """What rows say of one connection, all messages of all nodes together."""

    opened: int = 0
    closed: int = 0
    src_payload: int = 0
    dst_payload: int = 0
    nodes: set[str] = field(default_factory=set)
    interfaces: set[str] = field(default_factory=set)
    backends: set[tuple[str, int]] = field(default_factory=set)
    sources: set[tuple[str, int]] = field(default_factory=set)
    at: int = 0


@dataclass
class Verdict:
    """Connections of one kind, and how many were told wrongly, by what is wrong."""

    made: int = 0
    wrong: dict[str, int] = field(default_factory=dict)
    example: str = ""


@dataclass(frozen=True)
class Made:
    """What happened.

    Attributes:
        clients: what the initiators counted.
        servers: what the responders counted, each by the addresses that it saw.
        resent: segments that the kernel sent again.
        blind: by node, times in which no exporter listened there, ns since epoch.
    """

    clients: Sequence[Counted]
    servers: Sequence[Counted]
    resent: int
    blind: Mapping[str, Sequence[tuple[int, int]]]

    def unseen(self, made: Counted, node: str) -> bool:
        """Tell whether part of a connection fell into such a time."""
        return any(made.began <= end and made.ended >= begin for begin, end in self.blind.get(node, ()))


@dataclass
class Result:
    """What a run came to.

    Attributes:
        kinds: verdict by kind of connection.
        strangers: connections told that nobody made.
        lost: packets and rows that exporters said they lost.
        rows: flow rows of both nodes.
        resent: connections of which more bytes were told than each side counted.
        kernel_resent: segments that the kernel sent again.
        unseen: connections that fell into a time without an exporter; those were told once at most.
    """

    kinds: dict[str, Verdict]
    strangers: list[Endpoints] = field(default_factory=list)
    lost: int = 0
    rows: int = 0
    resent: int = 0
    kernel_resent: int = 0
    unseen: int = 0

    @property
    def made(self) -> int:
        """Connections in all."""
        return sum(verdict.made for verdict in self.kinds.values())

    @property
    def right(self) -> bool:
        """Everything was told once and rightly."""
        wrong = any(verdict.wrong for verdict in self.kinds.values())
        return not wrong and not self.strangers and self.resent <= self.kernel_resent

    def table(self) -> str:
        """Return the result as a table of Markdown."""
        lines = ["| connections | made | told once and rightly | otherwise |", "|---|---|---|---|"]
        for kind, verdict in self.kinds.items():
            wrong = ", ".join(f"{count} {what}" for what, count in verdict.wrong.items()) or "none"
            lines.append(f"| {kind} | {verdict.made:,} | {verdict.made - sum(verdict.wrong.values()):,} | {wrong} |")
        rest = (f"told but never made: {len(self.strangers)}", f"lost, as the exporters say: {self.lost}",
                f"with bytes sent again: {self.resent} ({self.kernel_resent} segments by the kernel's count)",
                f"while no exporter listened: {self.unseen}", f"flow rows: {self.rows:,}")  # fmt: skip
        return "\n".join([*lines, "", *rest])


def flow_rows(messages: Sequence[EventMessage]) -> Iterator[dict[str, Any]]:
    """Give the flow rows of messages that are no copies, each with its node and cut."""
    for message in messages:
        if "flow" in message.batches:
            for row in batch_to_rows("flow", message.batches["flow"]):
                if not row["copy"]:
                    yield row | {"node": message.header.node, "cut": message.header.cut}


def told(messages: Sequence[EventMessage]) -> dict[Endpoints, Told]:
    """Sum the rows of TCP by what the initiator addressed: before translation, where one is told."""
    found: dict[Endpoints, Told] = defaultdict(Told)
    for row in flow_rows(messages):
        if row["proto"] != 6:
            continue
        translated = row["orig_dst_port"] != 0
        port = row["orig_dst_port"] if translated else row["dst_port"]
        about = found[row["src"], row["src_port"], row["orig_dst"] if translated else row["dst"], port]
        about.opened += bool(row["marks"] & FlowMark.OPENED)
        about.closed += bool(row["marks"] & FlowMark.CLOSED)
        about.src_payload += row["src_payload"]
        about.dst_payload += row["dst_payload"]
        about.nodes.add(row["node"])
        about.interfaces.add(row["interface"])
        about.at = row["cut"]
        if translated:
            about.backends.add((row["dst"], row["dst_port"]))
        if row["nat_src_port"]:
            about.sources.add((row["nat_src"], row["nat_src_port"]))
    return found


def kind_of(made: Counted) -> str:
    """Which kind of route a connection took."""
    if made.dst_port == SERVICE_PORT:
        return "Service"
    if made.dst_port == NODE_PORT:
        return "NodePort"
    if made.src == OUTSIDE4:
        return "from outside"
    if made.dst == OUTSIDE4:
        return "to outside"
    return "same node" if BY_ADDRESS[made.src].node == BY_ADDRESS[made.dst].node else "other node"


def compare(made: Made, messages: Sequence[EventMessage], identities: IdentityTable, *, translations: bool) -> Result:
    """Compare what was told with what was counted.

    Args:
        made: what both sides counted.
        messages: of both nodes, repeats left out.
        identities: as the workers have them.
        translations: the exporters also told of NAT.
    """
    rows = told(messages)
    served: Served = defaultdict(list)
    for entry in made.servers:
        served[entry.src, entry.src_port, entry.dst].append((entry.dst_port, entry.asked, entry.answered))
    result = Result({kind: Verdict() for kind in KINDS}, kernel_resent=made.resent)
    for one in made.clients:
        kind, about = kind_of(one), rows.pop(one[:4], Told())
        verdict = result.kinds[kind]
        verdict.made += 1
        if made.unseen(one, node_of(one)):
            result.unseen += 1
            wrongs = ["told more than once"] if about.opened > 1 else []
        else:
            more = (about.src_payload - one.asked, about.dst_payload - one.answered)
            result.resent += max(more) > 0 <= min(more)
            wrongs = [*_told_rightly(one, about, identities)]
            if translations and about.opened == 1:
                wrongs += _translated_rightly(one, kind, about, served)
        for wrong in wrongs:
            verdict.wrong[wrong] = verdict.wrong.get(wrong, 0) + 1
            verdict.example = verdict.example or f"{wrong}: {one}, {about}"
    ours = {PORT, SERVICE_PORT, NODE_PORT}
    result.strangers = [ends for ends, about in rows.items() if ends[3] in ours and about.opened]
    result.lost = sum(message.header.lost_packets + message.header.lost_rows for message in messages)
    result.rows = sum(1 for _ in flow_rows(messages))
    return result


def node_of(made: Counted) -> str:
    """Which node reports a connection: its initiator's, else the one where it enters the cluster."""
    for address in (made.src, made.dst):
        if address in BY_ADDRESS:
            return BY_ADDRESS[address].node
    return next(node for node, address in NODES.items() if address == made.dst)


def _told_rightly(made: Counted, about: Told, identities: IdentityTable) -> Iterator[str]:
    """Say what is wrong with what was told of a connection."""
    if about.opened != 1:
        yield "not told" if not about.opened else "told more than once"
        return
    if about.closed != 1:
        yield "not closed once"
    # What was sent twice was counted twice, as it used the network twice: `Result.resent`.
    if about.src_payload < made.asked or about.dst_payload < made.answered:
        yield "bytes are missing"
    pod = BY_ADDRESS.get(made.src)
    if about.nodes != {node_of(made)} or about.interfaces != {pod.veth if pod else "eth0"}:
        yield "wrong node or interface"
    if pod is not None and identities.endpoint(made.src, about.at).pod != f"{pod.workload}-{pod.name}":
        yield "wrong pod"


def _translated_rightly(made: Counted, kind: str, about: Told, served: Served) -> Iterator[str]:
    """Say what is wrong with what was told of NAT, beside what the server behind it saw."""
    behind = kind in ("Service", "NodePort")
    backends = about.backends if behind else {(made.dst, made.dst_port)}
    if len(backends) != 1 or behind != bool(about.backends):
        yield "backend not told once"
        return
    (backend,) = backends
    seen_as = next(iter(about.sources), (made.src, made.src_port))
    # A node's port is used again by another pod's connection when the first has ended.
    counted = served[(*seen_as, backend[0])]
    wanted = (backend[1], made.asked, made.answered)
    if wanted in counted:
        counted.remove(wanted)
    else:
        yield "another count of the server" if counted else "no server saw it so"
    if (kind in ("NodePort", "to outside")) != bool(about.sources):
        yield "translated source not told"
