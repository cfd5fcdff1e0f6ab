"""The live exporters of two nodes measured in full: ``python -m tests.live [PART...]``; needs root and Java.

Parts: once (50,000 connections of every kind), killed (one exporter killed and started again), outage (the broker away
for 60 s), attacks (tools run live, latency by stage). Each prints its table; the exit code tells whether all was right.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sluicegate.demo_place import CACHE
from sluicegate.local_broker import LocalBroker, local_broker
from tests.lab import inventory, two_nodes
from tests.lab.lab import Lab, missing
from tests.lab.two_nodes import NODES, TwoNodes
from tests.live import attacks
from tests.live.cluster import LiveCluster, live_cluster
from tests.live.comparison import Result
from tests.live.disturbances import kill_during, outage_during
from tests.live.once import EXPORTER, run_once

CONNECTIONS, RATE = 50_000, 700.0
DISTURBED, DISTURBED_RATE = 40_000, 400.0
OUTAGE_S = 60.0
ROUNDS = len(attacks.ROUNDS)


@asynccontextmanager
async def _two_nodes(broker: LocalBroker, *, worker: bool = True) -> AsyncIterator[LiveCluster]:
    with tempfile.TemporaryDirectory(prefix="sluicegate-live-") as folder, TwoNodes() as lab:
        nodes = {name: name for name in NODES}
        objects = two_nodes.objects()
        async with live_cluster(lab, nodes, broker.bootstrap, Path(folder), EXPORTER, objects, worker=worker) as live:
            yield live


async def _attacks(broker: LocalBroker) -> bool:
    with tempfile.TemporaryDirectory(prefix="sluicegate-live-") as folder, Lab() as lab:
        nodes = {attacks.NODE: "node"}
        objects = inventory.objects()
        async with live_cluster(lab, nodes, broker.bootstrap, Path(folder), attacks.SETTINGS, objects) as live:
            found = await attacks.run_attacks(live, ROUNDS)
    print(attacks.table(found), flush=True)
    for each in found:
        if not each.right:
            print(f"not found: {each.attack.tool} by {each.attacker}; instead: {', '.join(each.named) or 'nothing'}")
    return all(each.right for each in found)


def _show(result: Result) -> bool:
    print(result.table(), flush=True)
    for verdict in result.kinds.values():
        if verdict.example:
            print(f"for example: {verdict.example}")
    return result.right


async def _run(part: str, broker: LocalBroker) -> bool:
    if part == "attacks":
        return await _attacks(broker)
    async with _two_nodes(broker, worker=part == "once") as live:
        if part == "once":
            return _show(await run_once(live, CONNECTIONS, RATE, translations=True))
        if part == "killed":
            return _show(await kill_during(live, DISTURBED, DISTURBED_RATE))
        return _show(await outage_during(live, broker, DISTURBED, DISTURBED_RATE, OUTAGE_S))


PARTS = ("once", "killed", "outage", "attacks")


def main(parts: list[str]) -> int:
    """Run parts; returns the exit code."""
    unknown = [part for part in parts if part not in PARTS]
    if unknown or (problem := missing()):
        print(f"live: no such part: {unknown[0]}; there are {', '.join(PARTS)}" if unknown else f"live: {problem}")
        return 2
    right = True
    with local_broker(CACHE) as broker:
        for part in parts or PARTS:
            print(f"\n## {part}\n", flush=True)
            right &= asyncio.run(_run(part, broker))
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
