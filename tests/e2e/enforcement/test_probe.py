"""`sluicegate doctor --cluster --probe`: two pods and a policy say whether policies stop anything here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.e2e.enforcement.conftest import Enforced
from tests.e2e.enforcement.lab_cluster import LabCluster
from tests.e2e.enforcement.node_agent import NodeAgent
from tests.lab import pods

pytestmark = [pytest.mark.e2e, pytest.mark.lab, pytest.mark.timeout(300)]

SLUICEGATE = str(Path(sys.executable).with_name("sluicegate"))
PLACES = ("web", "attacker")
IMAGE = "registry.example/sluicegate:test"
DENY_ALL = {"podSelector": {}, "policyTypes": ["Ingress"]}


@pytest.fixture
def cluster(enforced: Enforced) -> LabCluster:
    """A lab in which two places are free for the probe's pods."""
    made = enforced(PLACES)
    for name in PLACES:
        made.remove_pod(pods.BY_NAME[name])
    return made


def probe(cluster: LabCluster, namespace: str = "shop", image: str = IMAGE) -> tuple[int, dict[str, str]]:
    """The exit code, and what was found by the probe."""
    command = [SLUICEGATE, "doctor", "--cluster", "--json", "--kubeconfig", str(cluster.server.kubeconfig),
               "--probe", namespace, "--probe-image", image, "--probe-wait", "8"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    found = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert found, done.stderr
    return done.returncode, found[-1]


def nothing_is_left(cluster: LabCluster) -> bool:
    return not any("probe" in name for name in cluster.objects())


def test_an_enforcer_is_seen_to_enforce_both_ways(cluster: LabCluster) -> None:
    with NodeAgent(cluster, "shop", PLACES, image=IMAGE) as agent:
        _, found = probe(cluster)
    assert (found["name"], found["state"]) == ("probe", "ok")
    assert found["found"] == "NetworkPolicy stops new connections, ingress and egress, between pods on node1 and node1"
    assert nothing_is_left(cluster)
    # What a namespace with the strictest of the Pod Security Standards lets in.
    for spec in agent.specs:
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert spec["automountServiceAccountToken"] is False


def test_an_enforcer_that_does_nothing_is_found_out(cluster: LabCluster) -> None:
    cluster.enforcer.pause()
    with NodeAgent(cluster, "shop", PLACES, image=IMAGE):
        code, found = probe(cluster)
    cluster.enforcer.resume()
    assert (code, found["state"]) == (3, "missing")
    assert found["found"].startswith("NETWORKPOLICY IS NOT ENFORCED for ingress and egress")
    assert nothing_is_left(cluster)


def test_a_namespace_that_is_isolated_already_proves_nothing(cluster: LabCluster) -> None:
    cluster.policy("shop", "closed", DENY_ALL)
    with NodeAgent(cluster, "shop", PLACES, image=IMAGE):
        code, found = probe(cluster)
    assert (code, found["state"]) == (3, "missing")
    assert "before the probe's policy" in found["found"]
    assert nothing_is_left(cluster)


def test_what_cannot_be_tried_is_said(cluster: LabCluster) -> None:
    code, found = probe(cluster, namespace="nowhere")
    assert (code, found["state"]) == (3, "missing")
    assert 'namespaces "nowhere" not found' in found["found"]


def test_an_image_that_no_node_has_is_said_at_once(cluster: LabCluster) -> None:
    with NodeAgent(cluster, "shop", PLACES, image=IMAGE):
        code, found = probe(cluster, image="registry.example/another:1")
    assert (code, found["state"]) == (3, "missing")
    assert "ImagePullBackOff there is no such image" in found["found"]
    assert nothing_is_left(cluster)
