"""What the evaluator knows of a cluster: pods, namespaces, services, policies of every dialect, shared addresses."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from schemas.policy.addresses import Span, span_of_address
from schemas.policy.labels import LabelSelector
from schemas.policy.networkpolicy import Direction, NetworkPolicy, PolicyObject, Protocol
from schemas.policy.words import Dialect

NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True, slots=True)
class NamedPort:
    """A container port that a policy or a Service may call by name."""

    name: str
    protocol: Protocol
    number: int


@dataclass(frozen=True, slots=True)
class Pod:
    """A running pod. `node_ips` are its node's addresses; `workload` is `Kind/name` of the top owner, or empty.

    `service_account` is the name of the account that it runs as, empty where that is not known.
    `node` is the name of its node, empty where nobody says so. `uid` is the API's, `controller` the `Kind/name` of its
    direct owner, also after a response took it from there (`detached`). `taken` are labels that a response took off it.
    """

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ips: tuple[str, ...] = ()
    ports: tuple[NamedPort, ...] = ()
    host_network: bool = False
    node_ips: tuple[str, ...] = ()
    workload: str = ""
    service_account: str = ""
    node: str = ""
    uid: str = ""
    controller: str = ""
    detached: bool = False
    taken: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of a Service, and the port of the pods behind it that it leads to: a number or a name."""

    protocol: Protocol
    port: int
    target: int | str


@dataclass(frozen=True, slots=True)
class Service:
    """A Service's virtual addresses; enforcers never see them, only the pods behind, which `selector` selects."""

    namespace: str
    name: str
    ips: tuple[str, ...] = ()
    selector: Mapping[str, str] = field(default_factory=dict)
    forwards: tuple[Forward, ...] = ()


@dataclass(frozen=True, slots=True)
class Controller:
    """What owns pods, and by which labels it finds them; `replicas` is how many it wants, 1 where it does not say."""

    namespace: str
    kind: str
    name: str
    selector: LabelSelector
    replicas: int = 1

    @property
    def word(self) -> str:
        """`Kind/name`, as `Pod.controller` has it."""
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Node:
    """A node as far as pods may go there; `response_id` is the response that cordoned it, or empty."""

    name: str
    ready: bool = True
    unschedulable: bool = False
    control_plane: bool = False
    response_id: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
    """A policy that could not be read, or not be evaluated: it may allow or deny anything where it applies.

    `namespace` is where that is, empty for the whole cluster. `why` is one line that names the object and the field.
    """

    dialect: Dialect
    namespace: str
    why: str


class _PodIndex:
    """What a view derives from its pods alone, each when it is first asked for; views of the same pods share it."""

    def __init__(self, pods: tuple[Pod, ...]) -> None:
        self._pods = pods

    @cached_property
    def by_address(self) -> Mapping[Span, tuple[Pod, ...]]:
        found: dict[Span, tuple[Pod, ...]] = {}
        for pod in self._pods:
            for text in () if pod.host_network else pod.ips:
                span = span_of_address(text)
                found[span] = (*found.get(span, ()), pod)
        return found

    @cached_property
    def by_key(self) -> Mapping[str, Pod]:
        return {pod.key: pod for pod in self._pods}

    @cached_property
    def by_namespace(self) -> Mapping[str, tuple[Pod, ...]]:
        found: dict[str, list[Pod]] = {}
        for pod in self._pods:
            found.setdefault(pod.namespace, []).append(pod)
        return {namespace: tuple(items) for namespace, items in found.items()}

    @cached_property
    def nodes(self) -> frozenset[Span]:
        texts = {text for pod in self._pods for text in pod.node_ips}
        texts |= {text for pod in self._pods if pod.host_network for text in pod.ips}
        return frozenset(span_of_address(text) for text in texts)


@dataclass(frozen=True)
class ClusterView:
    """A consistent picture of one cluster at one time.

    `namespaces` maps a name to its labels. `policies` are NetworkPolicies, `objects` whatever other dialects have a
    say, `unread` what nobody may ignore. `served` are the dialects that its API takes, with the apiVersion to write;
    `in_force` those that the cluster is taken to enforce. `shared` are spans whose packets may stem from many hosts
    (NAT, gateways, proxies); node addresses always count among them. `controllers` and `nodes` are
    None where they were not asked for, or may not be read.
    """

    pods: tuple[Pod, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    policies: tuple[NetworkPolicy, ...] = ()
    services: tuple[Service, ...] = ()
    shared: tuple[Span, ...] = ()
    objects: tuple[PolicyObject, ...] = ()
    unread: tuple[Unread, ...] = ()
    served: Mapping[Dialect, str] = field(default_factory=lambda: {"networkpolicy": "networking.k8s.io/v1"})
    in_force: frozenset[Dialect] = frozenset(("networkpolicy",))
    controllers: tuple[Controller, ...] | None = None
    nodes: tuple[Node, ...] | None = None

    @cached_property
    def _index(self) -> _PodIndex:
        return _PodIndex(self.pods)

    @property
    def pods_by_address(self) -> Mapping[Span, tuple[Pod, ...]]:
        """The pods with an own network by each of their addresses."""
        return self._index.by_address

    @cached_property
    def _policies_by_namespace(self) -> dict[str, tuple[NetworkPolicy, ...]]:
        found: dict[str, list[NetworkPolicy]] = {}
        for policy in sorted(self.policies, key=lambda item: item.key):
            found.setdefault(policy.metadata.namespace, []).append(policy)
        return {namespace: tuple(items) for namespace, items in found.items()}

    @cached_property
    def _objects_by_dialect(self) -> dict[Dialect, tuple[PolicyObject, ...]]:
        found: dict[Dialect, list[PolicyObject]] = {}
        for item in sorted(self.objects, key=lambda item: item.key):
            found.setdefault(item.dialect, []).append(item)
        return {dialect: tuple(items) for dialect, items in found.items()}

    @property
    def node_addresses(self) -> frozenset[Span]:
        """Addresses of nodes, as far as pods name them."""
        return self._index.nodes

    @cached_property
    def service_addresses(self) -> Mapping[Span, Service]:
        """Virtual service addresses."""
        return {span_of_address(text): service for service in self.services for text in service.ips}

    def pod(self, key: str) -> Pod | None:
        """The pod with a `namespace/name`, or none."""
        return self._index.by_key.get(key)

    def pods_at(self, address: Span) -> tuple[Pod, ...]:
        """Pods with an own network that have an address (a span of one); host-network pods are their node."""
        return self.pods_by_address.get(address, ())

    def pod_addresses(self) -> tuple[Span, ...]:
        """Every address of a pod with an own network."""
        return tuple(self.pods_by_address)

    def pods_of(self, namespace: str) -> tuple[Pod, ...]:
        """The pods of a namespace, in the view's order."""
        return self._index.by_namespace.get(namespace, ())

    def policies_of(self, namespace: str) -> tuple[NetworkPolicy, ...]:
        """The NetworkPolicies of a namespace, by name, in force or not."""
        return self._policies_by_namespace.get(namespace, ())

    def namespace_labels(self, name: str) -> Mapping[str, str]:
        """A namespace's labels, with the name label that the API server sets on each."""
        return {NAMESPACE_NAME_LABEL: name, **self.namespaces.get(name, {})}

    def policies_on(self, pod: Pod, direction: Direction) -> tuple[NetworkPolicy, ...]:
        """The NetworkPolicies that isolate a pod in a direction, by name; never any for a host-network pod."""
        if pod.host_network or "networkpolicy" not in self.in_force:
            return ()
        return tuple(
            policy
            for policy in self.policies_of(pod.namespace)
            if direction in policy.directions() and policy.selects(self, pod)
        )

    def objects_of(self, *dialects: Dialect) -> tuple[PolicyObject, ...]:
        """The objects of those of some dialects that are in force, by dialect and name."""
        named = [dialect for dialect in dialects if dialect in self.in_force]
        return tuple(item for dialect in named for item in self._objects_by_dialect.get(dialect, ()))

    def dialects(self) -> frozenset[Dialect]:
        """The dialects in which anything is written here, read or not."""
        said = frozenset(item.dialect for item in (*self.policies, *self.objects))
        return said | frozenset(item.dialect for item in self.unread)

    def enforcing(self, dialects: frozenset[Dialect]) -> ClusterView:
        """This view with just some dialects in force."""
        return self if dialects == self.in_force else self.changed(in_force=dialects)

    def unread_on(self, namespaces: Collection[str]) -> tuple[Unread, ...]:
        """What could not be read, is in force, and may concern pods of some namespaces."""
        return tuple(
            item
            for item in self.unread
            if item.dialect in self.in_force and (not item.namespace or item.namespace in namespaces)
        )

    def is_shared(self, address: Span) -> bool:
        """Whether packets from an address may stem from many hosts."""
        return address in self.node_addresses or any(span.covers(address) for span in self.shared)

    def with_policies(self, *added: PolicyObject) -> ClusterView:
        """This view after policies of any dialect were applied, replacing those of the same kind and name."""
        keys = {policy.key for policy in added}
        kept = tuple(policy for policy in self.policies if policy.key not in keys)
        others = tuple(item for item in self.objects if item.key not in keys)
        return self.changed(
            policies=(*kept, *(item for item in added if isinstance(item, NetworkPolicy))),
            objects=(*others, *(item for item in added if not isinstance(item, NetworkPolicy))),
        )

    def without(self, label: str, pod_label: str, value: str) -> ClusterView:
        """This view without the policies that carry a label value, and pods without that value of a label.

        Those pods have again what a response took off them.
        """
        changed: dict[str, tuple[Pod, ...]] = {}
        if any(pod.labels.get(pod_label) == value for pod in self.pods):
            changed["pods"] = tuple(
                replace(pod, labels={**pod.taken, **{k: v for k, v in pod.labels.items() if k != pod_label}})
                if pod.labels.get(pod_label) == value
                else pod
                for pod in self.pods
            )
        kept = tuple(policy for policy in self.policies if policy.metadata.labels.get(label) != value)
        others = tuple(item for item in self.objects if item.metadata.labels.get(label) != value)
        return self.changed(policies=kept, objects=others, **changed)

    def with_pod_labels(self, key: str, labels: Mapping[str, str | None]) -> ClusterView:
        """This view after labels were set on one pod, and those of None taken off it."""
        pods = tuple(
            replace(pod, labels=relabelled(pod.labels, labels)) if pod.key == key else pod for pod in self.pods
        )
        return self.changed(pods=pods)

    def changed(self, **changes: Any) -> ClusterView:
        """This view with other values; what was derived from its pods is kept while they are the same."""
        made = replace(self, **changes)
        if made.pods is self.pods:
            made.__dict__["_index"] = self._index
        return made


def relabelled(labels: Mapping[str, str], by: Mapping[str, str | None]) -> dict[str, str]:
    """Labels after some were set, and those of None taken away."""
    return {key: value for key, value in {**labels, **by}.items() if value is not None}
