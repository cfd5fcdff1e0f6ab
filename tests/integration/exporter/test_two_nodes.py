"""Two nodes, their exporters, a real broker and a worker: every connection told once, also where NAT changes it.

The short form of ``make live``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.lab import two_nodes
from tests.lab.lab import missing
from tests.lab.two_nodes import NODES, TwoNodes
from tests.live.cluster import LiveCluster, live_cluster
from tests.live.once import run_once

pytestmark = [
    pytest.mark.lab, pytest.mark.kafka, pytest.mark.timeout(300),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]  # fmt: skip

CONNECTIONS, RATE = 2_000, 200.0
PACKETS = {"uplinks": ["eth0"], "cluster_networks": list(two_nodes.CLUSTER_NETWORKS)}


@pytest.fixture(scope="module")
def lab() -> Iterator[TwoNodes]:
    with TwoNodes() as running:
        yield running


@pytest.fixture
async def live(lab: TwoNodes, bootstrap: str, tmp_path: Path) -> AsyncIterator[LiveCluster]:
    nodes = {name: name for name in NODES}
    async with live_cluster(lab, nodes, bootstrap, tmp_path, {"packets": PACKETS}, two_nodes.objects()) as running:
        yield running


async def test_every_connection_is_told_once_with_its_bytes_pod_and_translation(live: LiveCluster) -> None:
    result = await run_once(live, CONNECTIONS, RATE, translations=True)
    assert result.lost == 0
    assert result.right, result
    assert sum(verdict.made for verdict in result.kinds.values()) == CONNECTIONS
    assert min(verdict.made for verdict in result.kinds.values()) > CONNECTIONS // 10
