"""Attack tools run live: each is found and the right pod named. The short form of ``make live ONLY=attacks``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import inventory
from tests.lab.lab import Lab, missing
from tests.live import attacks
from tests.live.cluster import live_cluster

pytestmark = [
    pytest.mark.lab, pytest.mark.kafka, pytest.mark.timeout(600),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]  # fmt: skip


async def test_each_tool_is_found_and_its_pod_named(bootstrap: str, tmp_path: Path) -> None:
    objects = inventory.objects()
    with Lab() as lab:
        nodes = {attacks.NODE: "node"}
        async with live_cluster(lab, nodes, bootstrap, tmp_path, attacks.SETTINGS, objects) as live:
            found = await attacks.run_attacks(live)
    missed = {f"{each.attack.tool}: {each.attack.kind}": each.named for each in found if not each.right}
    assert not missed
    assert len(found) == len(attacks.ATTACKS)
