"""From an alert and a policy file to undo: real Kafka, `sluicegate respond`, a real API server and its controllers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from response.kube_kinds import RawPod
from response.policyfile import parse_policy
from schemas.response import ResponseDecision
from schemas.topics import RESPONSES
from stream.settings import KafkaSettings
from stream.stages import DecideStage
from tests.e2e.conftest import Cluster
from tests.e2e.test_pods_of_controllers import address, admin_kubeconfig, node, pods_by_uid, started, wait_owned
from tests.e2e.test_responder_process import Desk, _now, kafka, until
from tests.unit.response.test_decide import ATTACKER, alert

__all__ = ["admin_kubeconfig", "kafka", "node"]

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.timeout(900)]

POLICY = """
version: 1
mode: enforce
categories:
  intrusion: {severity: high, deadline_s: 3600, ttl_s: 3600, actions: [detach_pod, notify], also: [annotate]}
  other: {severity: low, deadline_s: 3600, ttl_s: 3600, actions: [evict_pod, notify]}
kinds: {port_scan_vertical: intrusion}
"""


class Chain(Desk):
    """The responder as a process, and what a worker decides by the policy file."""

    def __init__(self, cluster: Cluster, kafka: KafkaSettings, place: Path) -> None:
        super().__init__(cluster, kafka, place)
        self._stage = DecideStage(parse_policy(POLICY, "test"))

    def seen(self, kind: str, pod: str) -> list[ResponseDecision]:
        """An alert about a pod; returns what was decided and sent."""
        attacker = ATTACKER.model_copy(
            update={"ip": address(self.cluster), "pod": pod, "namespace": self.cluster.namespace}
        )
        decided = self._stage.feed(alert(id=f"{kind}-{pod}", kind=kind, attackers=(attacker,), tick=_now()))
        for decision in decided:
            asyncio.run(self.publish(RESPONSES, decision))
        return decided


@pytest.fixture
def chain(
    cluster: Cluster, node: str, kafka: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Chain]:
    monkeypatch.setenv("SLUICEGATE_RESPONSE__OPT_IN", '["detach_pod", "evict_pod"]')
    made = Chain(cluster, kafka, tmp_path)
    yield made
    for process in made.running:
        process.stop()


def test_a_policy_file_detaches_and_notes_and_an_operator_takes_it_back(chain: Chain) -> None:
    pod = started(chain.cluster, "Deployment")
    uid = pod["metadata"]["uid"]
    asyncio.run(chain.start("responder").ready())
    detach, note = chain.seen("port_scan_vertical", pod["metadata"]["name"])
    chain.told(detach.id, "applied proven")
    chain.told(note.id, "applied nothing_to_prove")
    (fresh,) = [item["metadata"]["uid"] for item in wait_owned(chain.cluster, 1)]
    assert fresh != uid
    until(lambda: "ownerReferences" not in pods_by_uid(chain.cluster)[uid]["metadata"], "its ReplicaSet lets it go")
    held = pods_by_uid(chain.cluster)[uid]["metadata"]
    assert held["labels"] == {"sluicegate.io/quarantine": detach.id, "sluicegate.io/noted": "true"}
    assert f"incident.sluicegate.io/{note.id}" in held["annotations"]
    assert chain.command("revert", note.id) == ["reverted command"]
    assert set(pods_by_uid(chain.cluster)) == {uid, fresh}
    assert "sluicegate.io/noted" not in pods_by_uid(chain.cluster)[uid]["metadata"]["labels"]
    assert chain.command("revert", detach.id) == ["reverted command"]
    assert set(pods_by_uid(chain.cluster)) == {fresh}
    assert chain.ours() == set()


def test_what_cannot_be_evicted_is_told_and_what_can_is_replaced(chain: Chain) -> None:
    asyncio.run(chain.start("responder").ready())
    chain.cluster.pod("alone", address(chain.cluster), {"app": "alone"})
    (told,) = chain.seen("something_else", "alone")
    chain.told(told.id, "refused not_replaceable")
    chain.told(told.id, "applied nothing_to_prove")
    alone = pods_by_uid(chain.cluster)
    chain.cluster.client.delete(RawPod, "alone", namespace=chain.cluster.namespace)
    pod = started(chain.cluster, "Deployment")
    assert not alone.keys() & pods_by_uid(chain.cluster).keys()
    (evict,) = chain.seen("something_else", pod["metadata"]["name"])
    chain.told(evict.id, "applied nothing_to_prove")
    until(lambda: pod["metadata"]["uid"] not in pods_by_uid(chain.cluster), "the pod ends")
    wait_owned(chain.cluster, 1)
