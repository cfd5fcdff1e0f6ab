"""What happens to exporters under load: killed and started again, and a broker that goes away."""

from __future__ import annotations

import asyncio

from sluicegate.local_broker import LocalBroker
from tests.live.cluster import LiveCluster
from tests.live.comparison import Result
from tests.live.once import run_once

KILLED = "node1"


async def kill_during(live: LiveCluster, count: int, rate: float, *, translations: bool = True) -> Result:
    """Kill one node's exporter at a third of the load and start it again at once."""
    exporter = live.exporters[KILLED]

    async def disturb() -> None:
        await asyncio.sleep(count / rate / 3)
        await asyncio.to_thread(exporter.kill)
        exporter.start("--source", "packets", *(["--source", "conntrack"] if translations else []))
        await live.listening([KILLED])

    return await run_once(live, count, rate, translations=translations, disturb=disturb)


async def outage_during(
    live: LiveCluster, broker: LocalBroker, count: int, rate: float, seconds: float, *, translations: bool = True
) -> Result:
    """Stop the broker for some seconds of the load."""

    async def disturb() -> None:
        await asyncio.sleep(max(2.0, (count / rate - seconds) / 3))
        await asyncio.to_thread(broker.stop_node, 0)
        await asyncio.sleep(seconds)
        # From the thread that stays: the broker ends with the thread that started it.
        broker.start_node(0, wait=False)

    return await run_once(live, count, rate, translations=translations, disturb=disturb)
