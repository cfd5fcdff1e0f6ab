"""Attack to containment with every part real; the tables of docs/enforcement.md come from `make enforcement`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.enforcement.attacks import BY_ATTACK
from tests.e2e.enforcement.chain import CAST, FAULTS, Timeline, play
from tests.e2e.enforcement.conftest import Enforced
from tests.e2e.enforcement.lab_cluster import LabCluster

pytestmark = [pytest.mark.e2e, pytest.mark.lab, pytest.mark.kafka, pytest.mark.timeout(600)]


def _play(name: str, cluster: LabCluster, bootstrap: str, folder: Path, *, node_agent: bool = False) -> Timeline:
    played = play(BY_ATTACK[name], cluster, bootstrap, folder, node_agent=node_agent)
    assert played.exchanges > 0
    assert played.failed == ()
    return played.timeline


@pytest.fixture
def cluster(enforced: Enforced, bootstrap: str) -> LabCluster:
    return enforced(CAST, more_ports=[int(bootstrap.rsplit(":", 1)[1])])


def test_an_attack_is_stopped_and_nobody_else_is(cluster: LabCluster, bootstrap: str, tmp_path: Path) -> None:
    done = _play("scan", cluster, bootstrap, tmp_path)
    assert done.stopped
    assert done.packet <= done.events <= done.alert <= done.decision <= done.written
    assert done.verdict is not None
    assert done.verdict.outcome == "effective", done.verdict.message


def test_what_no_enforcer_carries_out_is_ineffective(cluster: LabCluster, bootstrap: str, tmp_path: Path) -> None:
    FAULTS["enforcer stands still"](cluster)
    done = _play("scan", cluster, bootstrap, tmp_path)
    assert not done.stopped
    assert done.verdict is not None
    assert (done.verdict.outcome, done.verdict.reason) == ("ineffective", "answered")


def test_an_upload_that_no_policy_ends_is_ended_on_the_node(
    cluster: LabCluster, bootstrap: str, tmp_path: Path
) -> None:
    """One connection, open before the policy: the policy is ineffective, says packets; then the node drops it."""
    done = _play("long_upload", cluster, bootstrap, tmp_path, node_agent=True)
    assert done.action.action == "block_egress_destination"
    assert done.verdict is not None
    assert (done.verdict.outcome, done.verdict.reason) == ("ineffective", "answered")
    assert done.then is not None
    assert done.then.outcome == "applied", done.then.message
    assert done.stopped
