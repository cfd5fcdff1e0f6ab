"""Objects that have addresses or say who may reach them, with the time for which that was so (inventory.v1)."""

from __future__ import annotations

from typing import Annotated, Literal

import orjson
from pydantic import Field

from schemas.policy.networkpolicy import PolicySpec
from schemas.word import Word

Labels = dict[str, str]
Protocol = Literal["TCP", "UDP", "SCTP"]
# The API server's own limits on one EndpointSlice.
MAX_ENDPOINTS, MAX_ENDPOINT_PORTS = 1000, 100


class ServicePort(Word):
    """One port of a Service."""

    name: str = Field("", description="as in the Service")
    protocol: Protocol = Field("TCP", description="transport")
    port: int = Field(ge=1, le=65535, description="of the Service")
    target_port: int | str = Field(description="number, or the name of a container port")
    node_port: int = Field(0, ge=0, le=65535, description="port of every node that leads here; 0: none")


class ServiceEndpoint(Word):
    """One endpoint of an EndpointSlice: its first address, since all of one endpoint's are alike."""

    address: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="IP address")
    ready: bool = Field(True, description="takes new connections")
    terminating: bool = Field(False, description="is going away; connections that it has may go on")
    pod: str = Field("", max_length=253, description="name of the pod behind it, where it is one")
    node: str = Field("", max_length=253, description="node that it runs on")


class EndpointPort(Word):
    """One port of an EndpointSlice: a number where the Service may have had a name."""

    name: str = Field("", max_length=253, description="as in the Service")
    protocol: Protocol = Field("TCP", description="transport")
    port: int = Field(0, ge=0, le=65535, description="of every endpoint; 0: any")


class InventoryObject(Word):
    """A pod, service, its endpoints, a node, namespace, NetworkPolicy, or an address range known to the operator."""

    kind: Literal["Pod", "Service", "Node", "Namespace", "Range", "EndpointSlice", "NetworkPolicy", "Watermark"] = (
        Field(
            description="what is stated; Watermark: all that was so for cuts up to valid_from has been said before it"
        )
    )
    uid: Annotated[str, Field(min_length=1, max_length=128)] = Field(
        description="of the object; a later statement about it ends an earlier one"
    )
    cluster: str = Field("", description="of the object; empty: the only one")
    namespace: str = Field("", description="of the object; empty where it has none")
    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="of the object")
    ips: tuple[str, ...] = Field((), description="addresses; cluster addresses of a Service; for a Range one CIDR")
    labels: Labels = Field(default_factory=dict, description="of the object")
    workload: str = Field("", description="kind/name of the top owner; pods")
    node: str = Field("", description="node that a pod runs on")
    interface: str = Field("", description="host side of a pod's veth, where known")
    host_network: bool = Field(False, description="a pod that shares its node's addresses")
    ports: dict[str, int] = Field(default_factory=dict, description="named container ports; pods")
    service_ports: tuple[ServicePort, ...] = Field((), description="ports of a Service")
    service_type: Literal["", "ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = Field(
        "", description="of a Service; empty: not told"
    )
    external_ips: tuple[str, ...] = Field(
        (), max_length=1024, description="addresses outside the cluster's own by which a Service is reached: its "
                                         "externalIPs and those of its load balancer"
    )  # fmt: skip
    source_ranges: tuple[str, ...] = Field(
        (), max_length=1024, description="CIDRs that a Service's load balancer lets in; empty: all"
    )
    session_affinity: bool = Field(False, description="a Service that keeps each client at one endpoint")
    local_traffic: bool = Field(False, description="a Service of traffic policy Local, inside or outside")
    selector: Labels = Field(default_factory=dict, description="pods behind a Service")
    service: str = Field("", max_length=253, description="name of the Service that an EndpointSlice belongs to")
    endpoints: tuple[ServiceEndpoint, ...] = Field((), max_length=MAX_ENDPOINTS, description="of an EndpointSlice")
    endpoint_ports: tuple[EndpointPort, ...] = Field(
        (), max_length=MAX_ENDPOINT_PORTS, description="of an EndpointSlice"
    )
    policy: PolicySpec | None = Field(None, description="spec of a NetworkPolicy, as the API writes it")
    role: Literal["", "shared", "internal", "external", "scanner"] = Field(
        "", description="Range: shared (NAT, gateway, proxy), inside or outside the cluster, declared scanner"
    )
    valid_from: int = Field(0, ge=0, description="first cut for which it holds, s since epoch")
    valid_to: int | None = Field(None, description="first cut for which it no longer holds; absent: still valid")

    def encode(self) -> bytes:
        """Return JSON with sorted keys; fields at their default are left out: most of them are."""
        fields = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        if self.policy is not None:
            fields["policy"] = self.policy.model_dump(mode="json", by_alias=True)
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def watermark(cluster: str, cut: int) -> InventoryObject:
    """Return the statement that all that was so for cuts up to one, s since epoch, stands before it on the topic."""
    return InventoryObject(kind="Watermark", uid=f"watermark:{cluster}"[:128], cluster=cluster, name="watermark",
                           valid_from=cut)  # fmt: skip
