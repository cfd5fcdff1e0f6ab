"""Objects that have addresses, with the time for which that was so (inventory.v1, JSON lines in files)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.word import Word

Labels = dict[str, str]


class ServicePort(Word):
    """One port of a Service."""

    name: str = Field("", description="as in the Service")
    protocol: Literal["TCP", "UDP", "SCTP"] = Field("TCP", description="transport")
    port: int = Field(ge=1, le=65535, description="of the Service")
    target_port: int | str = Field(description="number, or the name of a container port")


class InventoryObject(Word):
    """A pod, service, node, namespace, or an address range known to the operator."""

    kind: Literal["Pod", "Service", "Node", "Namespace", "Range"] = Field(description="what has the addresses")
    uid: Annotated[str, Field(min_length=1, max_length=128)] = Field(
        description="of the object; a later statement about it ends an earlier one"
    )
    cluster: str = Field("", description="of the object; empty: the only one")
    namespace: str = Field("", description="of the object; empty where it has none")
    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="of the object")
    ips: tuple[str, ...] = Field((), description="addresses; for a Range one CIDR")
    labels: Labels = Field(default_factory=dict, description="of the object")
    workload: str = Field("", description="kind/name of the top owner; pods")
    node: str = Field("", description="node that a pod runs on")
    interface: str = Field("", description="host side of a pod's veth, where known")
    host_network: bool = Field(False, description="a pod that shares its node's addresses")
    ports: dict[str, int] = Field(default_factory=dict, description="named container ports; pods")
    service_ports: tuple[ServicePort, ...] = Field((), description="ports of a Service")
    selector: Labels = Field(default_factory=dict, description="pods behind a Service")
    role: Literal["", "shared", "internal", "external", "scanner"] = Field(
        "", description="Range: shared (NAT, gateway, proxy), inside or outside the cluster, declared scanner"
    )
    valid_from: int = Field(0, ge=0, description="s since epoch")
    valid_to: int | None = Field(None, description="s since epoch; absent: still valid")
