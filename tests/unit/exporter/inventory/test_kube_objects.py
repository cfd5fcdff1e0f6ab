from __future__ import annotations

from typing import Any

import pytest

from exporter.inventory import kube_objects
from exporter.inventory.kube_objects import (
    guessed_workload,
    read_endpoint_slice,
    read_network_policy,
    read_node,
    read_pod,
    read_service,
    read_service_cidr,
)

META = {"name": "x", "namespace": "shop", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"a": "b"}}
CREATED = 1_767_225_601  # the cut of that second


def pod(status: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": META, "spec": {"nodeName": "n1", **spec}, "status": {"podIP": "10.0.0.1", **status}}


def test_a_pod_is_told_with_all_its_addresses_and_named_ports() -> None:
    ports = [{"name": "http", "containerPort": 80}, {"containerPort": 81}]
    spec = {
        "containers": [{"ports": ports}, {}], "hostNetwork": None,
        "initContainers": [{"restartPolicy": "Always", "ports": [{"name": "mesh", "containerPort": 15090}]},
                           {"ports": [{"name": "once", "containerPort": 9}]}],
    }  # fmt: skip
    (item,) = read_pod(pod({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "FD00::0:1"}]}, **spec), "east")
    assert item.model_dump(exclude_defaults=True) == {
        "kind": "Pod", "uid": "u", "cluster": "east", "namespace": "shop", "name": "x", "labels": {"a": "b"},
        "ips": ("10.0.0.1", "fd00::1"), "node": "n1", "ports": {"http": 80, "mesh": 15090}, "valid_from": CREATED,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "second"),
    [
        ({"startTime": "2026-01-01T00:00:05Z"}, 5),
        ({"startTime": "2026-01-01T00:00:05Z", "containerStatuses": [
            {"state": {"running": {"startedAt": "2026-01-01T00:00:09Z"}}}, {"state": {"waiting": {}}},
            {"state": {"running": {"startedAt": "2026-01-01T00:00:08Z"}}}]}, 8),
        ({"startTime": "2026-01-01T00:00:05Z", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:30Z"},
            {"type": "PodReadyToStartContainers", "status": "True",
             "lastTransitionTime": "2026-01-01T00:00:07Z"}]}, 7),
        ({"conditions": [{"type": "PodReadyToStartContainers", "status": "False",
                          "lastTransitionTime": "2026-01-01T00:00:07Z"}]}, 0),
    ],
)  # fmt: skip
def test_a_pod_has_its_address_since_its_sandbox_was_ready(status: dict[str, Any], second: int) -> None:
    assert read_pod(pod(status), "east")[0].valid_from == CREATED + second


@pytest.mark.parametrize("status", [{"phase": "Succeeded"}, {"phase": "Failed"}, {"podIP": ""}, {"podIP": None}])
def test_a_pod_without_address_or_that_has_ended_is_not_there(status: dict[str, Any]) -> None:
    assert read_pod(pod(status), "east") == []


def test_a_service_is_told_with_what_leads_to_it() -> None:
    spec = {
        "type": "LoadBalancer", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"],
        "ports": [{"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080},
                  {"port": 53, "protocol": "UDP"}],
        "externalIPs": ["192.0.2.1"], "loadBalancerSourceRanges": ["198.51.100.0/24"], "sessionAffinity": "ClientIP",
        "externalTrafficPolicy": "Local",
    }  # fmt: skip
    ingress = [{"ip": "192.0.2.2"}, {"hostname": "lb.example"}]
    document = {"metadata": META, "spec": spec, "status": {"loadBalancer": {"ingress": ingress}}}
    (item,) = read_service(document, "")
    assert (item.ips, item.external_ips) == (("10.96.0.1", "fd00::1"), ("192.0.2.1", "192.0.2.2"))
    assert [(p.port, p.target_port, p.protocol, p.node_port) for p in item.service_ports] == [
        (80, "web", "TCP", 30080), (53, 53, "UDP", 0),
    ]  # fmt: skip
    assert (item.session_affinity, item.local_traffic, item.source_ranges) == (True, True, ("198.51.100.0/24",))
    (headless,) = read_service({"metadata": META, "spec": {"clusterIP": "None", "clusterIPs": ["None"]}}, "")
    assert (headless.ips, headless.service_type, headless.selector) == ((), "ClusterIP", {})


def test_a_node_is_told_with_the_addresses_by_which_it_speaks_to_pods() -> None:
    metadata = {**META, "annotations": {"projectcalico.org/IPv4IPIPTunnelAddr": "10.1.0.9", "other": "10.9.9.9"}}
    addresses = [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "n1"}]
    document = {"metadata": metadata, "status": {"addresses": addresses},
                "spec": {"podCIDR": "10.0.1.0/24", "podCIDRs": ["10.0.1.0/24", "fd00:1::/64"]}}  # fmt: skip
    node, four, six = read_node(document, "east")
    assert node.ips == ("192.0.2.1", "10.1.0.9", "10.0.1.0", "10.0.1.1", "fd00:1::", "fd00:1::1")
    assert [(r.uid, r.ips, r.role) for r in (four, six)] == [
        ("u/10.0.1.0/24", ("10.0.1.0/24",), "internal"), ("u/fd00:1::/64", ("fd00:1::/64",), "internal"),
    ]  # fmt: skip
    assert len(read_node({"metadata": META}, "east")) == 1


def test_endpoints_policies_and_ranges_are_told() -> None:
    metadata = {**META, "labels": {"kubernetes.io/service-name": "web"}}
    document = {
        "metadata": metadata, "addressType": "IPv4", "ports": [{"port": None}, {"name": "http", "port": 80}],
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": None},
                       "targetRef": {"kind": "Pod", "name": "p"}},
                      {"addresses": ["10.0.0.2"], "conditions": {"ready": False, "terminating": True}},
                      {"addresses": []}],
    }  # fmt: skip
    (item,) = read_endpoint_slice(document, "")
    assert [(e.address, e.ready, e.terminating, e.pod) for e in item.endpoints] == [
        ("10.0.0.1", True, False, "p"), ("10.0.0.2", False, True, ""),
    ]  # fmt: skip
    assert (item.service, [p.port for p in item.endpoint_ports], item.ips) == ("web", [0, 80], ())
    assert read_endpoint_slice({**document, "addressType": "FQDN"}, "") == []
    ranges = read_service_cidr({"metadata": META, "spec": {"cidrs": ["10.96.0.0/16", "fd00::/112"]}}, "")
    assert [r.ips for r in ranges] == [("10.96.0.0/16",), ("fd00::/112",)]
    (policy,) = read_network_policy({"metadata": META, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}}, "")
    assert policy.policy is not None


@pytest.mark.parametrize(
    ("read", "document"),
    [
        (read_pod, {"metadata": META, "status": {"podIP": "10.0.0.256"}}),
        (read_pod, {"metadata": {**META, "uid": "x" * 200}, "status": {"podIP": "10.0.0.1"}}),
        (read_pod, {"metadata": META, "status": ["Running"]}),
        (read_pod, {"status": {"podIP": "10.0.0.1"}}),
        (read_service, {"metadata": META, "spec": {"ports": [{}]}}),
        (read_node, {"metadata": META, "spec": {"podCIDR": "10.0.0.0/33"}}),
        (read_network_policy, {"metadata": META, "spec": {"podSelector": {}, "ingress": [{"from": [{"newPeer": 1}]}]}}),
    ],
)
def test_what_does_not_have_its_shape_is_refused_as_the_watch_expects(read: Any, document: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        read(document, "east")


def test_a_deployment_is_guessed_from_its_replica_set() -> None:
    document = {"metadata": {**META, "labels": {"pod-template-hash": "5d9f"}}}
    assert guessed_workload(document, {"kind": "ReplicaSet", "name": "web-5d9f"}) == "Deployment/web"
    assert guessed_workload(document, {"kind": "ReplicaSet", "name": "web"}) == "ReplicaSet/web"
    assert guessed_workload(document, {"kind": "Job", "name": "web-5d9f"}) == "Job/web-5d9f"
    assert kube_objects.controller(
        {"metadata": {"ownerReferences": [{"kind": "A"}, {"kind": "B", "controller": True}]}}
    )
    assert kube_objects.controller({"metadata": {"ownerReferences": [{"kind": "A"}]}}) is None
