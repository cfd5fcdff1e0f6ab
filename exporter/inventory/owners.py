"""The workload of a pod: the top of its chain of owners, as far as Kubernetes' own controllers make it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import structlog

from exporter.inventory.kube_client import ApiFailure, KubeClient
from exporter.inventory.kube_objects import controller, guessed_workload

log = structlog.get_logger("exporter.inventory")

# Owners that have owners themselves: a Deployment's ReplicaSet (or that of a rollout controller), a CronJob's Job.
_MIDDLE = {"ReplicaSet": ("apps/", "replicasets"), "Job": ("batch/", "jobs")}
_REMEMBERED = 16_384  # owners, about 200 bytes each; the one not asked for longest leaves
_REFUSED = (403, 404)


class Owners:
    """Finds workloads; asks the server once for each ReplicaSet and Job."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._known: OrderedDict[str, str] = OrderedDict()
        self._warned = False

    async def workload(self, pod: Mapping[str, Any]) -> str:
        """Return ``Kind/name``; empty for a pod that nothing controls, and for one that its node alone runs.

        Raises:
            ApiFailure: the server cannot be asked.
        """
        owner = controller(pod)
        if owner is None or owner.get("kind") == "Node":
            return ""
        direct = f"{owner.get('kind')}/{owner.get('name')}"
        group, plural = _MIDDLE.get(str(owner.get("kind")), ("", ""))
        version = str(owner.get("apiVersion") or "")
        if not plural or not version.startswith(group):
            return direct
        uid = str(owner.get("uid") or "")
        if uid not in self._known:
            path = f"/apis/{version}/namespaces/{pod['metadata']['namespace']}/{plural}/{owner['name']}"
            self._known[uid] = await self._ask(path, pod, owner)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(uid)
        return self._known[uid]

    async def _ask(self, path: str, pod: Mapping[str, Any], owner: Mapping[str, Any]) -> str:
        try:
            above = controller(await self._client.metadata(path))
        except ApiFailure as error:
            if error.code not in _REFUSED:
                raise
            if error.code != 404 and not self._warned:
                self._warned = True
                log.warning("workloads are guessed from names", reason=str(error))
            return guessed_workload(pod, owner)
        return f"{above.get('kind')}/{above.get('name')}" if above is not None else f"{owner['kind']}/{owner['name']}"
