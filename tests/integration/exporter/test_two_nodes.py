"""Two nodes, their exporters, a real broker and a worker: every connection told once, also where NAT changes it.

Short forms of ``make live``. The outage stops the broker of the whole session, which comes back on its storage.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from schemas.events import Capability
from sluicegate.local_broker import LocalBroker
from tests.lab import two_nodes
from tests.lab.lab import missing
from tests.lab.two_nodes import NODES, TwoNodes
from tests.live.cluster import LiveCluster, live_cluster, until
from tests.live.comparison import kind_of, node_of, told
from tests.live.disturbances import KILLED, kill_during, outage_during
from tests.live.once import EXPORTER, make_connections, run_once
from tests.live.spoofing import ATTACKER, CLAIMED, OBJECTS, PACKETS, VICTIM, pod_name, run_spoofed

pytestmark = [
    pytest.mark.lab, pytest.mark.kafka, pytest.mark.timeout(300),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]  # fmt: skip

CONNECTIONS, RATE = 2_000, 200.0
ATTEMPTS = int(Capability.ATTEMPTS)


@pytest.fixture(scope="module")
def lab() -> Iterator[TwoNodes]:
    with TwoNodes() as running:
        yield running


@pytest.fixture
async def live(lab: TwoNodes, bootstrap: str, tmp_path: Path) -> AsyncIterator[LiveCluster]:
    nodes = {name: name for name in NODES}
    async with live_cluster(lab, nodes, bootstrap, tmp_path, EXPORTER, two_nodes.objects()) as running:
        yield running


async def test_every_connection_is_told_once_with_its_bytes_pod_and_translation(live: LiveCluster) -> None:
    result = await run_once(live, CONNECTIONS, RATE, translations=True)
    assert result.lost == 0
    assert result.right, result
    assert sum(verdict.made for verdict in result.kinds.values()) == CONNECTIONS
    assert min(verdict.made for verdict in result.kinds.values()) > CONNECTIONS // 10


async def test_a_killed_exporter_tells_nothing_twice_and_misses_what_came_while_it_was_gone(live: LiveCluster) -> None:
    result = await kill_during(live, 1_500, 100.0)
    assert result.lost == 0
    assert result.right, result
    assert 0 < result.unseen < result.made // 2
    boots = {message.header.boot for message in live.heard.messages(KILLED)}
    assert len(boots) == 2


async def test_an_outage_of_the_broker_loses_nothing(live: LiveCluster, local_kafka: LocalBroker) -> None:
    result = await outage_during(live, local_kafka, 1_500, 100.0, 5.0)
    assert (result.lost, result.unseen) == (0, 0)
    assert result.right, result
    waited = [appended / 1000 - message.header.cut for message, appended in live.heard.events[KILLED]]
    assert max(waited) > 3.0, "the broker was never away"


async def test_a_flood_under_a_pods_address_of_another_node_is_counted_once_and_its_sender_named(
    lab: TwoNodes, bootstrap: str, tmp_path: Path
) -> None:
    nodes = {name: name for name in NODES}
    async with live_cluster(lab, nodes, bootstrap, tmp_path, EXPORTER, OBJECTS) as running:
        found = await run_spoofed(running)
    assert found.alert is not None
    assert set(found.pods) == {pod_name(ATTACKER)}
    # The victim's node has seen them, too, and nobody counts them twice.
    assert found.copies > found.pods[pod_name(ATTACKER)] // 2
    counted = {item.name: item.value for item in found.alert.evidence}
    assert counted["attempts"] <= PACKETS
    assert not found.alert.spoofable
    (attacker,) = found.alert.attackers
    assert (attacker.pod, attacker.ip, attacker.node) == (pod_name(ATTACKER), ATTACKER.ip4, ATTACKER.node)
    assert (attacker.interface, attacker.forged) == (ATTACKER.veth, (CLAIMED.ip4,))
    assert {end.pod for end in found.alert.victims} == {pod_name(VICTIM)}


async def test_connection_tracking_alone_tells_each_beginning_once_with_its_endpoint(
    lab: TwoNodes, bootstrap: str, tmp_path: Path
) -> None:
    nodes = {name: name for name in NODES}
    own = {name: {"conntrack": {"pod_networks": [f"10.244.{n}.0/24"]}} for n, name in enumerate(NODES, 1)}
    objects = two_nodes.objects()
    async with live_cluster(lab, nodes, bootstrap, tmp_path, EXPORTER, objects, worker=False, own=own) as running:
        for exporter in running.exporters.values():
            exporter.start("--source", "conntrack")
        await running.listening()
        clients, _ = await make_connections(running, 600, 100.0)
        for name, exporter in running.exporters.items():
            await exporter.stop()
            await until(lambda name=name: running.heard.ended(name), f"the end of {name}")  # type: ignore[misc]
        messages = [message for name in NODES for message in running.heard.messages(name)]
    rows = told(messages)
    for made in clients:
        about = rows[made[:4]]
        assert (about.opened, about.nodes) == (1, {node_of(made)}), made
        assert len(about.backends) == (kind_of(made) in ("Service", "NodePort")), made
    assert not any(ATTEMPTS & message.header.capabilities for message in messages)
    assert messages[0].header.notes[0].startswith("connection tracking alone")
