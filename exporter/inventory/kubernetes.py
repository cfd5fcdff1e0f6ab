"""The inventory of a Kubernetes cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from exporter.inventory.docker_objects import UIDS
from exporter.inventory.kube_client import ApiFailure, KubeClient
from exporter.inventory.kube_objects import (
    Reader,
    read_endpoint_slice,
    read_namespace,
    read_network_policy,
    read_node,
    read_pod,
    read_service,
    read_service_cidr,
)
from exporter.inventory.kube_watch import KubeWatch, WatchedKind
from exporter.inventory.owners import Owners
from exporter.inventory.settings import InventorySettings
from exporter.inventory.source import Book, InventoryProblem
from schemas.inventory import InventoryObject

# Named as their statements' kind is; a ServiceCIDR's are ranges. Pods come last: then all that explains them is there.
_KINDS: tuple[tuple[str, str, Reader], ...] = (
    ("Node", "/api/v1/nodes", read_node),
    ("Range", "/apis/networking.k8s.io/v1/servicecidrs", read_service_cidr),
    ("Namespace", "/api/v1/namespaces", read_namespace),
    ("Service", "/api/v1/services", read_service),
    ("EndpointSlice", "/apis/discovery.k8s.io/v1/endpointslices", read_endpoint_slice),
    ("NetworkPolicy", "/apis/networking.k8s.io/v1/networkpolicies", read_network_policy),
)


class KubernetesSource:
    """Nodes, namespaces, Services, EndpointSlices, NetworkPolicies and pods of one cluster. See ``InventorySource``."""

    def __init__(
        self, client: KubeClient, cluster: str, settings: InventorySettings, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._settings = settings
        self._clock = clock
        self._owners = Owners(client)
        self._watches: list[KubeWatch] = []

    def owns(self, item: InventoryObject) -> bool:
        """See ``InventorySource.owns``."""
        return not item.uid.startswith(UIDS)

    def _make(self, book: Book) -> list[KubeWatch]:
        kinds = [WatchedKind(k, path, self._plain(read), optional=k == "Range") for k, path, read in _KINDS]
        kinds.append(WatchedKind("Pod", "/api/v1/pods", self._pod))
        return [KubeWatch(self._client, kind, book, self._settings, self._clock) for kind in kinds]

    def _plain(self, read: Reader) -> Callable[[Mapping[str, Any]], Any]:
        async def items(document: Mapping[str, Any]) -> Sequence[InventoryObject]:
            return read(document, self._cluster)

        return items

    async def _pod(self, document: Mapping[str, Any]) -> Sequence[InventoryObject]:
        items = read_pod(document, self._cluster)
        if not items:
            return items
        workload = await self._owners.workload(document)
        return [item.model_copy(update={"workload": workload}) for item in items]

    async def run(self, book: Book) -> None:
        """See ``InventorySource.run``."""
        self._watches = self._make(book)
        async with asyncio.TaskGroup() as tasks:
            for watch in self._watches:
                tasks.create_task(watch.run())

    async def once(self, book: Book) -> None:
        """See ``InventorySource.once``."""
        for watch in self._make(book):
            try:
                await watch.list()
            except ApiFailure as error:
                if not watch.may_miss(error):
                    raise InventoryProblem(str(error)) from None

    def known_until(self, now: float) -> float:
        """See ``InventorySource.known_until``."""
        return min((watch.known_until(now) for watch in self._watches), default=-1.0)

    def problems(self) -> list[str]:
        """See ``InventorySource.problems``."""
        return [watch.problem for watch in self._watches if watch.problem]
