"""Every connection once: what two exporters told, beside what clients and servers counted themselves."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.event_codec import EventMessage, batch_to_rows
from schemas.events import FlowMark
from schemas.identity import IdentityTable
from tests.lab import two_nodes
from tests.lab.connections import Counted, read_counts
from tests.lab.pods import OUTSIDE
from tests.lab.two_nodes import BACKENDS, BY_ADDRESS, NODE_PORT, NODES, OUTSIDE4, PODS, PORT, SERVICE, SERVICE_PORT
from tests.live.cluster import LiveCluster, until

KINDS = ("same node", "other node", "Service", "NodePort", "from outside", "to outside")
Route = tuple[str, str, int]
Endpoints = tuple[str, int, str, int]
_NONE = "0.0.0.0"


def routes() -> dict[str, list[Route]]:
    """Who connects to whom, by kind: from a namespace to an address and port."""
    by_node = {node: [pod for pod in PODS if pod.node == node] for node in NODES}
    near, far, service = [], [], []
    for node, other in zip(NODES, reversed(NODES), strict=True):
        for number, pod in enumerate(by_node[node]):
            near += [(pod.name, by_node[node][(number + step) % 10].ip4, PORT) for step in (1, 3)]
            far += [(pod.name, by_node[other][(number + step) % 10].ip4, PORT) for step in (0, 5)]
            if pod not in BACKENDS:
                service.append((pod.name, SERVICE, SERVICE_PORT))
    return {
        "same node": near, "other node": far, "Service": service,
        "NodePort": [(OUTSIDE, address, NODE_PORT) for address in NODES.values()],
        "from outside": [(OUTSIDE, pod.ip4, PORT) for pod in PODS],
        "to outside": [(pod.name, OUTSIDE4, PORT) for pod in PODS],
    }  # fmt: skip


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


@dataclass
class Result:
    """What a run came to.

    Attributes:
        kinds: verdict by kind of connection.
        strangers: connections told that nobody made.
        lost: packets and rows that exporters said they lost.
        rows: flow rows of both nodes.
    """

    kinds: dict[str, Verdict]
    strangers: list[Endpoints]
    lost: int
    rows: int

    @property
    def right(self) -> bool:
        """Everything was told once and rightly."""
        return not self.strangers and not any(verdict.wrong for verdict in self.kinds.values())


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
    source, _, target, port, *_ = made
    if port == SERVICE_PORT:
        return "Service"
    if port == NODE_PORT:
        return "NodePort"
    if source == OUTSIDE4:
        return "from outside"
    if target == OUTSIDE4:
        return "to outside"
    return "same node" if BY_ADDRESS[source].node == BY_ADDRESS[target].node else "other node"


def compare(
    clients: Sequence[Counted], servers: Sequence[Counted], messages: Sequence[EventMessage], identities: IdentityTable,
    *, translations: bool,
) -> Result:  # fmt: skip
    """Compare what was told with what was counted.

    Args:
        clients: what the initiators counted.
        servers: what the responders counted, each by the addresses that it saw.
        messages: of both nodes, repeats left out.
        identities: as the workers have them.
        translations: the exporters also told of NAT.
    """
    rows = told(messages)
    # A responder sees a client's address, or a node's in its place where that was translated; its port may change.
    served = {(entry[0], entry[1], entry[2]): entry for entry in servers}
    verdicts = {kind: Verdict() for kind in KINDS}
    for made in clients:
        kind = kind_of(made)
        verdict = verdicts[kind]
        verdict.made += 1
        for wrong in _judge(made, kind, rows.pop(made[:4], Told()), served, identities, translations):
            verdict.wrong[wrong] = verdict.wrong.get(wrong, 0) + 1
            verdict.example = verdict.example or f"{wrong}: {made}"
    ours = {PORT, SERVICE_PORT, NODE_PORT}
    strangers = [ends for ends, about in rows.items() if ends[3] in ours and about.opened]
    lost = sum(message.header.lost_packets + message.header.lost_rows for message in messages)
    return Result(verdicts, strangers, lost, sum(1 for _ in flow_rows(messages)))


def _judge(
    made: Counted, kind: str, about: Told, served: dict[tuple[str, int, str], Counted], identities: IdentityTable,
    translations: bool,
) -> Iterator[str]:  # fmt: skip
    source, port, target, target_port, asked, answered = made
    if about.opened != 1:
        yield "not told" if not about.opened else "told more than once"
        return
    if about.closed != 1:
        yield "not closed once"
    if (about.src_payload, about.dst_payload) != (asked, answered):
        yield "other bytes"
    pod = BY_ADDRESS.get(source)
    node = pod.node if pod else next((n for n, ip in NODES.items() if ip == target), None)
    node = node or BY_ADDRESS[target].node
    if about.nodes != {node} or about.interfaces != {pod.veth if pod else "eth0"}:
        yield "wrong node or interface"
    if pod is not None and identities.endpoint(source, about.at).pod != f"{pod.workload}-{pod.name}":
        yield "wrong pod"
    if not translations:
        return
    backends = about.backends if kind in ("Service", "NodePort") else {(target, target_port)}
    if len(backends) != 1 or (kind in ("Service", "NodePort")) != bool(about.backends):
        yield "backend not told once"
        return
    (backend,) = backends
    seen_as = next(iter(about.sources), (source, port))
    counted = served.get((*seen_as, backend[0]))
    if counted is None:
        yield "no server saw it so"
    elif counted[3:] != (backend[1], asked, answered):
        yield "another count of the server"
    if (kind in ("NodePort", "to outside")) != bool(about.sources):
        yield "translated source not told"


async def run_once(live: LiveCluster, count: int, rate: float, *, translations: bool = False, seed: int = 1) -> Result:
    """Make connections of every kind while the exporters listen, and compare.

    Args:
        live: exporters are not started yet.
        count: connections.
        rate: connections a second.
        translations: exporters also listen to connection tracking.
        seed: of sizes.
    """
    sources = ["--source", "packets", *(["--source", "conntrack"] if translations else [])]
    for exporter in live.exporters.values():
        exporter.start(*sources)
    await live.listening()
    clients, servers = await make_connections(live, count, rate, seed)
    for exporter in live.exporters.values():
        await exporter.stop()
    for name in live.exporters:
        await until(lambda name=name: live.heard.ended(name), f"the last message of {name}")  # type: ignore[misc]
    messages = [message for name in live.exporters for message in live.heard.messages(name)]
    identities = IdentityTable(two_nodes.objects())
    return compare(clients, servers, messages, identities, translations=translations)


async def make_connections(
    live: LiveCluster, count: int, rate: float, seed: int = 1
) -> tuple[list[Counted], list[Counted]]:
    """Make connections of all kinds in turn; returns what clients and what servers counted."""
    lab, folder = live.lab, live.folder
    plans = {"serve": {"port": PORT, "spaces": [lab.space(name) for name in (*(pod.name for pod in PODS), OUTSIDE)]}}
    mixed: list[Route] = []
    by_kind = routes()
    for number in range(max(map(len, by_kind.values()))):
        mixed += [paths[number % len(paths)] for paths in by_kind.values()]
    spaced = [(lab.space(space), address, port) for space, address, port in mixed]
    plans["connect"] = {"routes": spaced, "count": count, "rate": rate, "seed": seed}
    outs = {}
    for word, plan in plans.items():
        (folder / f"{word}.plan").write_text(json.dumps(plan))
        outs[word] = folder / f"{word}.out"
    command = [sys.executable, "-m", "tests.lab.connections"]
    serving = await asyncio.create_subprocess_exec(
        *command, "serve", str(folder / "serve.plan"), str(outs["serve"]), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    try:
        assert serving.stdout is not None
        assert await serving.stdout.readline() == b"ready\n"
        connecting = await asyncio.create_subprocess_exec(
            *command, "connect", str(folder / "connect.plan"), str(outs["connect"]), cwd=ROOT
        )
        if await connecting.wait():
            problem = "the load tool could not make its connections"
            raise RuntimeError(problem)
    finally:
        serving.terminate()
        await serving.wait()
    return read_counts(Path(outs["connect"])), read_counts(Path(outs["serve"]))


ROOT = Path(__file__).resolve().parents[2]
