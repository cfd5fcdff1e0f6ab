"""Pods, Services and controllers of the Kubernetes API as the evaluator's values; unknown fields are ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from response.objects import DETACHED_ANNOTATION, QUARANTINE_LABEL, RESPONSE_LABEL, read_taken
from schemas.policy.addresses import span_of_address
from schemas.policy.cluster import Controller, Forward, NamedPort, Node, Pod, Service
from schemas.policy.labels import ApiModel, LabelSelector, none_to_dict, none_to_list
from schemas.policy.networkpolicy import ObjectMeta, Protocol

# As a label or as a taint; the second is the name of before Kubernetes 1.24.
_CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
_FINISHED = ("Succeeded", "Failed")


class ObjectError(ValueError):
    """An API object that does not have the shape its kind should; the message is one line."""


class _Owner(ApiModel):
    kind: str
    name: str
    controller: bool = False


class _PodMeta(ObjectMeta):
    owner_references: Annotated[tuple[_Owner, ...], BeforeValidator(none_to_list)] = ()


class _ContainerPort(ApiModel):
    name: str = ""
    container_port: int
    protocol: Protocol = "TCP"


class _Container(ApiModel):
    ports: Annotated[tuple[_ContainerPort, ...], BeforeValidator(none_to_list)] = ()
    restart_policy: str | None = None


class _PodSpec(ApiModel):
    containers: Annotated[tuple[_Container, ...], BeforeValidator(none_to_list)] = ()
    init_containers: Annotated[tuple[_Container, ...], BeforeValidator(none_to_list)] = ()
    host_network: bool | None = None
    node_name: str | None = None


class _Address(ApiModel):
    ip: str


class _PodStatus(ApiModel):
    phase: str = "Pending"
    pod_ip: str | None = Field(None, alias="podIP")
    pod_ips: Annotated[tuple[_Address, ...], BeforeValidator(none_to_list)] = Field((), alias="podIPs")
    host_ip: str | None = Field(None, alias="hostIP")
    host_ips: Annotated[tuple[_Address, ...], BeforeValidator(none_to_list)] = Field((), alias="hostIPs")


class _ApiPod(ApiModel):
    metadata: _PodMeta
    spec: Annotated[_PodSpec, BeforeValidator(none_to_dict)] = _PodSpec()
    status: Annotated[_PodStatus, BeforeValidator(none_to_dict)] = _PodStatus()


class _ServicePort(ApiModel):
    protocol: Protocol = "TCP"
    port: int
    target_port: int | str | None = None


class _ServiceSpec(ApiModel):
    cluster_ip: str | None = Field(None, alias="clusterIP")
    cluster_ips: Annotated[tuple[str, ...], BeforeValidator(none_to_list)] = Field((), alias="clusterIPs")
    selector: Annotated[dict[str, str], BeforeValidator(none_to_dict)] = Field(default_factory=dict)
    ports: Annotated[tuple[_ServicePort, ...], BeforeValidator(none_to_list)] = ()


class _ApiService(ApiModel):
    metadata: ObjectMeta
    spec: Annotated[_ServiceSpec, BeforeValidator(none_to_dict)] = _ServiceSpec()


class _NodeMeta(ApiModel):
    name: str
    labels: Annotated[dict[str, str], BeforeValidator(none_to_dict)] = Field(default_factory=dict)


class _Taint(ApiModel):
    key: str


class _NodeSpec(ApiModel):
    unschedulable: bool | None = None
    taints: Annotated[tuple[_Taint, ...], BeforeValidator(none_to_list)] = ()


class _Condition(ApiModel):
    type: str
    status: str


class _NodeStatus(ApiModel):
    conditions: Annotated[tuple[_Condition, ...], BeforeValidator(none_to_list)] = ()


class _ApiNode(ApiModel):
    metadata: _NodeMeta
    spec: Annotated[_NodeSpec, BeforeValidator(none_to_dict)] = _NodeSpec()
    status: Annotated[_NodeStatus, BeforeValidator(none_to_dict)] = _NodeStatus()


class _ControllerSpec(ApiModel):
    replicas: int | None = None
    selector: Annotated[dict[str, Any], BeforeValidator(none_to_dict)] = Field(default_factory=dict)


class _ApiController(ApiModel):
    metadata: ObjectMeta
    spec: Annotated[_ControllerSpec, BeforeValidator(none_to_dict)] = _ControllerSpec()


def read_pod(document: Mapping[str, Any]) -> Pod | None:
    """The pod in an API object; None for one that has ended and given its address back. Raises ObjectError."""
    try:
        found = _ApiPod.model_validate(document)
    except ValidationError as error:
        raise _object_error(document, error, "Pod") from None
    if found.status.phase in _FINISHED:
        return None
    metadata = found.metadata
    held = metadata.labels.get(QUARANTINE_LABEL) is not None
    owner = _controller(metadata)
    detached_from = metadata.annotations.get(DETACHED_ANNOTATION, "") if held and not owner else ""
    taken = read_taken(metadata.annotations) if held else {}
    sidecars = (item for item in found.spec.init_containers if item.restart_policy == "Always")
    ports = (port for container in (*found.spec.containers, *sidecars) for port in container.ports)
    return Pod(
        namespace=metadata.namespace,
        name=metadata.name,
        labels=metadata.labels,
        ips=_addresses(found.status.pod_ip, found.status.pod_ips),
        ports=tuple(NamedPort(p.name, p.protocol, p.container_port) for p in ports if p.name),
        host_network=bool(found.spec.host_network),
        node_ips=_addresses(found.status.host_ip, found.status.host_ips),
        workload=_workload(owner or detached_from, {**taken, **metadata.labels}),
        node=found.spec.node_name or "",
        uid=metadata.uid,
        controller=owner or detached_from,
        detached=bool(detached_from),
        taken=taken,
    )


def read_service(document: Mapping[str, Any]) -> Service:
    """The Service in an API object. Raises ObjectError."""
    try:
        found = _ApiService.model_validate(document)
    except ValidationError as error:
        raise _object_error(document, error, "Service") from None
    texts = {*found.spec.cluster_ips, *filter(None, (found.spec.cluster_ip,))} - {"None", ""}
    forwards = tuple(Forward(p.protocol, p.port, p.target_port or p.port) for p in found.spec.ports)
    return Service(
        found.metadata.namespace, found.metadata.name, tuple(sorted(texts)), found.spec.selector, forwards
    )  # fmt: skip


def read_controller(document: Mapping[str, Any], kind: str) -> Controller:
    """What owns pods: a ReplicaSet, StatefulSet, DaemonSet, Job or ReplicationController. Raises ObjectError."""
    try:
        found = _ApiController.model_validate(document)
        # The selector of the oldest of them is labels alone.
        plain = found.spec.selector if kind != "ReplicationController" else {"matchLabels": found.spec.selector}
        selector = LabelSelector.model_validate(plain)
    except ValidationError as error:
        raise _object_error(document, error, kind) from None
    replicas = 1 if found.spec.replicas is None else found.spec.replicas
    return Controller(found.metadata.namespace, kind, found.metadata.name, selector, replicas)


def read_node(document: Mapping[str, Any]) -> Node:
    """The node in an API object; one that says nothing of being ready is not. Raises ObjectError."""
    try:
        found = _ApiNode.model_validate(document)
    except ValidationError as error:
        raise _object_error(document, error, "Node") from None
    named = {*found.metadata.labels, *(taint.key for taint in found.spec.taints)}
    return Node(
        found.metadata.name,
        ready=any(item.type == "Ready" and item.status == "True" for item in found.status.conditions),
        unschedulable=bool(found.spec.unschedulable),
        control_plane=bool(named.intersection(_CONTROL_PLANE)),
        response_id=found.metadata.labels.get(RESPONSE_LABEL, ""),
    )


def _addresses(first: str | None, rest: tuple[_Address, ...]) -> tuple[str, ...]:
    texts = dict.fromkeys([*filter(None, (first,)), *(item.ip for item in rest)])
    for text in texts:
        span_of_address(text)
    return tuple(texts)


def _controller(metadata: _PodMeta) -> str:
    """`Kind/name` of the controlling owner, or empty."""
    owner = next((item for item in metadata.owner_references if item.controller), None)
    return f"{owner.kind}/{owner.name}" if owner is not None else ""


def _workload(controller: str, labels: Mapping[str, str]) -> str:
    """The controller; a Deployment's ReplicaSet is named by the Deployment."""
    kind, _, name = controller.partition("/")
    template = labels.get("pod-template-hash")
    if kind == "ReplicaSet" and template and name.endswith(f"-{template}"):
        return f"Deployment/{name.removesuffix(f'-{template}')}"
    return controller


def _object_error(document: Mapping[str, Any], error: ValidationError, kind: str) -> ObjectError:
    first = error.errors(include_url=False, include_input=False)[0]
    metadata = document.get("metadata") or {}
    name = f"{metadata.get('namespace', 'default')}/{metadata.get('name', '?')}"
    return ObjectError(f"{kind} {name}: {'.'.join(str(p) for p in first['loc'])}: {first['msg']}")
