from __future__ import annotations

from typing import Any

import pytest

from response.api_objects import ObjectError, read_pod, read_service
from response.manifests import read_policies
from schemas.inventory import InventoryObject
from schemas.policy.addresses import span_of_address, span_of_cidr
from schemas.policy.cluster import NamedPort, Service
from schemas.policy.inventory_view import view_of_inventory
from schemas.policy.networkpolicy import PolicyError, PolicySpec


def api_pod(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "shop",
            "name": "web-5d4-x",
            "labels": {"app": "web", "pod-template-hash": "5d4"},
            "ownerReferences": [
                {"kind": "Other", "name": "o", "controller": False},
                {"kind": "ReplicaSet", "name": "web-5d4", "controller": True},
            ],
        },
        "spec": {
            "containers": [{"ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 9}]}, {"ports": None}],
            "initContainers": [
                {"restartPolicy": "Always", "ports": [{"name": "mesh", "containerPort": 15001, "protocol": "UDP"}]},
                {"ports": [{"name": "once", "containerPort": 1}]},
            ],
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}
        | {"hostIP": "10.9.0.1"}
        | status,
    }


def test_a_pod_as_the_api_gives_it() -> None:
    pod = read_pod(api_pod())
    assert pod is not None
    assert (pod.key, pod.workload) == ("shop/web-5d4-x", "Deployment/web")
    assert pod.ips == ("10.0.0.1", "fd00::1")
    assert pod.node_ips == ("10.9.0.1",)
    # A sidecar keeps running and listening; an ordinary init container does not.
    assert pod.ports == (NamedPort("http", "TCP", 8080), NamedPort("mesh", "UDP", 15001))


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_finished_pod_has_given_its_address_back(phase: str) -> None:
    assert read_pod(api_pod(phase=phase)) is None


def test_owners_that_are_no_deployment_keep_their_name() -> None:
    document = api_pod()
    document["metadata"]["ownerReferences"] = [{"kind": "StatefulSet", "name": "db", "controller": True}]
    pod = read_pod(document)
    assert pod is not None
    assert pod.workload == "StatefulSet/db"


def test_objects_of_the_wrong_shape_are_one_line() -> None:
    with pytest.raises(ObjectError, match=r"^Pod shop/web-5d4-x: status.phase: ") as caught:
        read_pod(api_pod(phase=1))
    assert "\n" not in str(caught.value)
    with pytest.raises(ObjectError, match=r"^Service default/\?: metadata"):
        read_service({})


def test_a_headless_service_has_no_address() -> None:
    metadata = {"namespace": "shop", "name": "db"}
    assert read_service({"metadata": metadata, "spec": {"clusterIP": "None", "clusterIPs": ["None"]}}).ips == ()
    made = read_service({"metadata": metadata, "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"]}})
    assert made == Service("shop", "db", ("10.96.0.1",))


def test_an_inventory_is_a_cluster_at_a_time() -> None:
    def item(**values: Any) -> InventoryObject:
        return InventoryObject(uid=values["name"], **values)

    objects = (
        item(kind="Node", name="n1", ips=("10.9.0.1",)),
        item(kind="Pod", namespace="shop", name="old", ips=("10.0.0.1",), valid_to=100),
        item(
            kind="Pod", namespace="shop", name="new", ips=("10.0.0.1",), valid_from=100, node="n1", ports={"http": 80}
        ),
        item(kind="Namespace", name="shop", labels={"team": "shop"}),
        item(kind="Service", namespace="shop", name="web", ips=("10.96.0.1",)),
        item(kind="Range", name="nat", ips=("192.0.2.0/28",), role="shared"),
        item(kind="Range", name="office", ips=("198.51.100.0/24",), role="internal"),
    )
    assert [pod.name for pod in view_of_inventory(objects, at=99).pods] == ["old"]
    view = view_of_inventory(objects, at=100)
    (pod,) = view.pods
    assert (pod.name, pod.node_ips) == ("new", ("10.9.0.1",))
    assert {(port.protocol, port.number) for port in pod.ports} == {("TCP", 80), ("UDP", 80), ("SCTP", 80)}
    assert view.namespace_labels("shop") == {"team": "shop", "kubernetes.io/metadata.name": "shop"}
    assert view.is_shared(span_of_address("10.9.0.1"))
    assert view.is_shared(span_of_address("192.0.2.15"))
    assert not view.is_shared(span_of_address("198.51.100.1"))
    assert span_of_address("10.96.0.1") in view.service_addresses
    assert view.shared[-1] == span_of_cidr("192.0.2.0/28")


def test_the_latest_statement_about_an_object_holds() -> None:
    first = InventoryObject(kind="Pod", uid="u", namespace="shop", name="a", ips=("10.0.0.1",))
    second = first.model_copy(update={"ips": ("10.0.0.2",), "valid_from": 50})
    assert [pod.ips for pod in view_of_inventory((second, first), at=60).pods] == [("10.0.0.2",)]
    ended = second.model_copy(update={"valid_from": 70, "valid_to": 70})
    assert view_of_inventory((first, second, ended), at=70).pods == ()


def test_policies_are_read_from_yaml_streams_and_lists() -> None:
    text = """
kind: NetworkPolicy
metadata: {namespace: shop, name: one}
---
kind: List
items:
- {kind: NetworkPolicy, metadata: {namespace: shop, name: two}, spec: {podSelector: {}}}
- {kind: ConfigMap, metadata: {name: other}}
---
"""
    assert [item.key for item in read_policies(text, "f")] == ["shop/one", "shop/two"]
    with pytest.raises(PolicyError, match=r"^f: line 1: not YAML$"):
        read_policies("a: [", "f")


def test_a_file_may_hold_policies_of_every_dialect() -> None:
    text = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: one, namespace: shop}
spec: {selector: all(), ingress: [{action: Deny}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: one, namespace: shop}
---
apiVersion: example.org/v1
kind: NetworkPolicy
metadata: {name: stranger, namespace: shop}
"""
    read = read_policies(text, "f")
    assert [item.key for item in read] == ["Calico NetworkPolicy shop/one", "shop/one"]
    view = view_of_inventory([], read)
    assert ([item.key for item in view.policies], [item.key for item in view.objects]) == (
        ["shop/one"],
        ["Calico NetworkPolicy shop/one"],
    )
    with pytest.raises(PolicyError, match=r"^Calico NetworkPolicy shop/one: spec\.novel: this field is not evaluated$"):
        read_policies(text.replace("spec: {selector", "spec: {novel: 1, selector"), "f")


def test_policies_of_the_inventory_are_in_the_view() -> None:
    spec = PolicySpec.model_validate({"podSelector": {}, "policyTypes": ["Ingress"]})
    told = InventoryObject(kind="NetworkPolicy", uid="p", namespace="shop", name="deny", policy=spec, valid_to=9)
    assert [policy.key for policy in view_of_inventory([told], at=8).policies] == ["shop/deny"]
    assert view_of_inventory([told], at=9).policies == ()
