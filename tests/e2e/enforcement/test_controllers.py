"""A quarantine under the real controllers: they keep the pod, its Service keeps serving it, undo is exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.types import CascadeType

from response.kube_kinds import RawService
from tests.e2e import controllers
from tests.e2e.apiserver import ApiServer
from tests.e2e.enforcement.conftest import Enforced, Respond
from tests.e2e.enforcement.decisions import decision
from tests.e2e.enforcement.lab_cluster import LabCluster
from tests.e2e.enforcement.probers import now
from tests.e2e.workloads import WORKLOADS, endpoints, owned_pods
from tests.lab import pods
from tests.lab.lab import wait_for
from tests.lab.pods import BY_NAME

pytestmark = [pytest.mark.e2e, pytest.mark.lab, pytest.mark.timeout(300)]

WEB, ATTACKER = BY_NAME["web"], BY_NAME["attacker"]
NAMESPACE = ATTACKER.namespace
LABELS = {"app": "import"}


KINDS = ("ReplicaSet", "StatefulSet", "DaemonSet", "Job")


def create(kind: str, cluster: LabCluster, name: str, labels: Mapping[str, str]) -> None:
    WORKLOADS[kind].create(cluster.client, NAMESPACE, name, labels, pods.NODE)


@pytest.fixture(scope="module")
def controlled(server: ApiServer) -> Iterator[ApiServer]:
    with controllers.running(server):
        yield server


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_quarantined_pod_stays_its_owners_and_its_services(
    kind: str, controlled: ApiServer, enforced: Enforced, respond: Respond
) -> None:
    cluster = enforced(("web", "attacker"))
    cluster.serve("web")
    cluster.remove_pod(ATTACKER)
    service = {"selector": LABELS, "ports": [{"port": 80}]}
    cluster.client.create(RawService(metadata=ObjectMeta(name="import", namespace=NAMESPACE), spec=service))
    create(kind, cluster, "import", LABELS)
    wait_for(lambda: len(owned_pods(cluster.client, NAMESPACE, "import")) == 1, f"the pod of the {kind}", 60.0)
    (pod,) = owned_pods(cluster.client, NAMESPACE, "import")
    name = pod["metadata"]["name"]
    cluster.run_pod(NAMESPACE, name, ATTACKER)
    serving = {(ATTACKER.ip4, True)}
    wait_for(lambda: endpoints(cluster.client, NAMESPACE, "import") == serving, "the Service to have it", 60.0)
    attack = cluster.prober("attacker", "fresh", WEB.ip4)
    before = cluster.objects()
    began = now()
    responder = respond(cluster)
    asked = decision(ATTACKER, WEB, began, "quarantine_pod", pod=name)
    (action,) = responder.respond(asked, began)
    assert action.outcome == "applied", action.message
    attack.closed(began)
    # Another of the kind is served after this: whatever the change set off has had its turn.
    create(kind, cluster, "later", {"app": "later"})
    wait_for(lambda: len(owned_pods(cluster.client, NAMESPACE, "later")) == 1, f"a later {kind}", 60.0)
    (kept,) = owned_pods(cluster.client, NAMESPACE, "import")
    assert kept["metadata"]["uid"] == pod["metadata"]["uid"]
    assert endpoints(cluster.client, NAMESPACE, "import") == serving
    lifted = now()
    (undone,) = responder.revert(action.response_id, "alice", lifted)
    assert undone.outcome == "reverted", undone.message
    attack.opened(lifted)
    later = f"{NAMESPACE}/{owned_pods(cluster.client, NAMESPACE, 'later')[0]['metadata']['name']}"
    assert {key: item for key, item in cluster.objects().items() if later not in key} == before
    for left in ("import", "later"):
        cluster.client.delete(WORKLOADS[kind].kind, left, namespace=NAMESPACE, cascade=CascadeType.BACKGROUND)
    cluster.client.delete(RawService, "import", namespace=NAMESPACE)
    wait_for(
        lambda: not owned_pods(cluster.client, NAMESPACE, "import") + owned_pods(cluster.client, NAMESPACE, "later"),
        "the pods to go with their owners", 60.0,
    )  # fmt: skip
