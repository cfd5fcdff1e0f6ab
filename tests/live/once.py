"""Every connection once: load of every kind of route while two nodes' exporters listen."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from schemas.event_codec import EventMessage
from schemas.identity import IdentityTable
from tests.lab import two_nodes
from tests.lab.connections import FIRST_PORT, LAST_PORT, Counted, read_counts
from tests.lab.lab import ROOT
from tests.lab.pods import OUTSIDE
from tests.lab.two_nodes import BACKENDS, NODE_PORT, NODES, OUTSIDE4, PODS, PORT, SERVICE, SERVICE_PORT
from tests.live.cluster import LiveCluster, until
from tests.live.comparison import Made, Result, compare

SECOND = 1_000_000_000
# Settings of the exporters.
EXPORTER = {"packets": {"uplinks": ["eth0"], "cluster_networks": list(two_nodes.CLUSTER_NETWORKS)}}
Route = tuple[str, str, int]


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


async def run_once(
    live: LiveCluster, count: int, rate: float, *, translations: bool = False, seed: int = 1,
    disturb: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> Result:  # fmt: skip
    """Make connections of every kind while the exporters listen, and compare.

    Args:
        live: exporters are not started yet.
        count: connections.
        rate: connections a second.
        translations: exporters also listen to connection tracking.
        seed: of sizes.
        disturb: what happens meanwhile.
    """
    sources = ["--source", "packets", *(["--source", "conntrack"] if translations else [])]
    for exporter in live.exporters.values():
        exporter.start(*sources)
    await live.listening()
    resent = _resent(live)
    disturbing = asyncio.create_task(disturb()) if disturb is not None else None
    clients, servers = await make_connections(live, count, rate, seed)
    if disturbing is not None:
        await disturbing
    resent = _resent(live) - resent
    for exporter in live.exporters.values():
        await exporter.stop()
    for name in live.exporters:
        await until(lambda name=name: live.heard.ended(name), f"the last message of {name}")  # type: ignore[misc]
    messages = [message for name in live.exporters for message in live.heard.messages(name)]
    made = Made(clients, servers, resent, blind_times(messages))
    return compare(made, messages, IdentityTable(two_nodes.objects()), translations=translations)


def _resent(live: LiveCluster) -> int:
    """Segments that the kernel sent again so far, in all pods and outside."""
    total = 0
    for space in (*(pod.name for pod in PODS), OUTSIDE):
        names, values = (
            line.split() for line in live.lab.run(space, ["cat", "/proc/net/snmp"]).splitlines() if line[:4] == "Tcp:"
        )
        total += int(values[names.index("RetransSegs")])
    return total


def blind_times(messages: Sequence[EventMessage]) -> dict[str, list[tuple[int, int]]]:
    """Return for each node the times, ns since epoch, between the last whole second of an exporter and the next's.

    The first message of an exporter is that of the second before; it began to listen somewhere in the one after that.
    """
    boots: dict[str, dict[str, list[EventMessage]]] = {}
    for message in messages:
        boots.setdefault(message.header.node, {}).setdefault(message.header.boot, []).append(message)
    found: dict[str, list[tuple[int, int]]] = {}
    for node, by_boot in boots.items():
        spans = []
        for some in by_boot.values():
            parts = Counter(m.header.cut for m in some)
            whole = [m.header.cut for m in some if parts[m.header.cut] == m.header.parts]
            spans.append((min(whole), max(whole)))
        spans.sort()
        found[node] = [(before[1] * SECOND, (after[0] + 1) * SECOND) for before, after in pairwise(spans)]
    return found


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
    used = Counter(spaced[number % len(spaced)][0] for number in range(count))
    # Ports of earlier connections are remembered by the kernels: a first attempt with one of them is refused.
    port = live.lab.next_port if live.lab.next_port + max(used.values()) <= LAST_PORT else FIRST_PORT
    live.lab.next_port = port + max(used.values())
    plans["connect"] = {"routes": spaced, "count": count, "rate": rate, "seed": seed, "port": port}
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
