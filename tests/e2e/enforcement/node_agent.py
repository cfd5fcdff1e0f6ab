"""Runs what pods of a namespace say in namespaces of the lab, and tells the API server how it went, as a node would.

Only as much of a node's agent as a probe needs: one container, its exit code, no image. Pods take the lab's places in
the order in which they come; the first is the server's, all clients share the second.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from lightkube import KubeConfig
from lightkube.config.client_adapter import Client as make_http
from lightkube.config.client_adapter import ConnectionParams
from lightkube.types import PatchType

from response.kube_kinds import RawPod
from tests.e2e.conftest import PodStatus
from tests.e2e.enforcement.lab_cluster import LabCluster
from tests.lab import pods

_LOOK_S = 0.1
_PULL_ERROR = {"waiting": {"reason": "ImagePullBackOff", "message": "there is no such image"}}


class NodeAgent:
    """Looks after the probe's pods of one namespace; use as a context manager."""

    def __init__(self, cluster: LabCluster, namespace: str, places: Sequence[str], *, image: str) -> None:
        self._cluster, self._namespace, self._image = cluster, namespace, image
        self._places = [pods.BY_NAME[name] for name in places]
        config = KubeConfig.from_file(cluster.server.kubeconfig).get()
        assert config is not None
        self._http = make_http(config, ConnectionParams())
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._told: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_after)
        self.specs: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._http.close()
        for child in self._running.values():
            child.kill()

    def _look_after(self) -> None:
        while not self._stop.wait(_LOOK_S):
            found = self._cluster.client.list(RawPod, namespace=self._namespace, labels={"sluicegate.io/probe": None})
            for pod in [dict(item) for item in found]:
                self._look_at(pod)

    def _look_at(self, pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        if name not in self._told:
            self._told.add(name)
            self._begin(name, pod)
        child = self._running.get(name)
        if child is not None and child.poll() is not None:
            del self._running[name]
            phase = "Succeeded" if child.returncode == 0 else "Failed"
            self._say(name, phase, {"terminated": {"exitCode": child.returncode}}, "")

    def _begin(self, name: str, pod: dict[str, Any]) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/pods/{name}/binding"
        target = {"apiVersion": "v1", "kind": "Node", "name": pods.NODE}
        # Its answer is no binding, so the typed client has no words for it.
        self._http.post(path, json={"metadata": {"name": name}, "target": target}).raise_for_status()
        container = pod["spec"]["containers"][0]
        self.specs.append(pod["spec"])
        if container["image"] != self._image:
            self._say(name, "Pending", _PULL_ERROR, "")
            return
        place = self._places[min(len(self._told), len(self._places)) - 1]
        command = [sys.executable, *container["command"][1:]]
        # Its address is told first: an enforcer must know a pod before its first packet.
        self._say(name, "Running", {"running": {}}, place.ip4)
        self._running[name] = self._cluster.lab.start(place.name, command)

    def _say(self, name: str, phase: str, state: dict[str, Any], address: str) -> None:
        status: dict[str, Any] = {
            "phase": phase, "hostIP": pods.NODE_UPLINK4,
            "containerStatuses": [{
                "name": "probe", "ready": phase == "Running", "restartCount": 0, "image": "", "imageID": "",
                "state": state,
            }],
        }  # fmt: skip
        if address:
            status |= {"podIP": address, "podIPs": [{"ip": address}]}
        self._cluster.client.patch(
            PodStatus, name, {"status": status}, namespace=self._namespace, patch_type=PatchType.MERGE
        )
