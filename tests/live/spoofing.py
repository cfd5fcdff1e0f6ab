"""A pod floods a pod of another node under the address of a third: found at the victim, and whose veth it came from."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from schemas.alert import Alert
from schemas.event_codec import batch_to_rows
from tests.lab import two_nodes
from tests.lab.two_nodes import PODS, PORT, NodePod
from tests.live.cluster import LiveCluster, until

_BY_NAME = {pod.name: pod for pod in PODS}
ATTACKER, VICTIM, CLAIMED = _BY_NAME["a5"], _BY_NAME["b3"], _BY_NAME["b7"]
PACKETS = 8_000


# As of a real cluster: no API tells which interface leads to a pod, so the nodes themselves must.
OBJECTS = tuple(item.model_copy(update={"interface": ""}) for item in two_nodes.objects())
_SOURCES = ("--source", "packets", "--source", "host")


@dataclass
class Spoofed:
    """What was found.

    Attributes:
        alert: about the flood, its last revision; None: there was none.
        pods: pods behind the interfaces by which packets in that name entered, with the attempts told of each.
        copies: attempts that the victim's node told as copies.
    """

    alert: Alert | None = None
    pods: Counter[str] = field(default_factory=Counter)
    copies: int = 0


def pod_name(pod: NodePod) -> str:
    """Return the name that the inventory gives a pod."""
    return f"{pod.workload}-{pod.name}"


async def run_spoofed(live: LiveCluster) -> Spoofed:
    """Flood, wait for the alert, end the exporters; inventory must be ``OBJECTS``."""
    for exporter in live.exporters.values():
        exporter.start(*_SOURCES)
    await live.listening()
    found = Spoofed()
    flood = f"hping3 -q -S -p {PORT} -i u500 -c {PACKETS} -a {CLAIMED.ip4} {VICTIM.ip4}"
    child = live.lab.start(ATTACKER.name, flood.split())

    def told() -> bool:
        for alert, _ in live.heard.alerts:
            if alert.kind == "syn_flood" and pod_name(VICTIM) in {end.pod for end in alert.victims}:
                found.alert = alert
        return found.alert is not None

    with suppress(TimeoutError):
        await until(told, "the alert about the flood", 30.0)
    await asyncio.to_thread(child.wait, 60)
    await asyncio.sleep(4.0)  # until what nobody answers counts as unanswered
    for name, exporter in live.exporters.items():
        await exporter.stop()
        await until(lambda name=name: live.heard.ended(name), f"the last message of {name}")  # type: ignore[misc]
    _whose(live, found)
    return found


def _whose(live: LiveCluster, found: Spoofed) -> None:
    """Read from the rows, and from the inventory's word about interfaces, whose packets they were."""
    owners = {(item.node, item.interface): item.name for item in two_nodes.objects() if item.interface}
    for name in live.exporters:
        for message in live.heard.messages(name):
            for row in batch_to_rows("flow", message.batches["flow"]) if "flow" in message.batches else ():
                if (row["src"], row["dst"]) != (CLAIMED.ip4, VICTIM.ip4) or not row["src_syn"]:
                    continue
                if row["copy"]:
                    found.copies += row["src_syn"]
                else:
                    found.pods[owners.get((name, row["interface"]), row["interface"])] += row["src_syn"]
