"""The laboratory's pods as pods of a real API server: the same names, addresses and labels on both sides."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lightkube import ApiError, Client, KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.types import PatchType

from response.kube_kinds import RawNamespace, RawNetworkPolicy, RawPod
from tests.e2e.apiserver import ApiServer
from tests.e2e.conftest import PodStatus
from tests.e2e.enforcement import audit, relay
from tests.e2e.enforcement.enforcer import Enforcer
from tests.e2e.enforcement.judge import Judge
from tests.e2e.enforcement.probers import EVERY_S, Prober
from tests.e2e.workloads import NodeStatus, RawNode
from tests.lab import pods
from tests.lab.lab import Lab, wait_for
from tests.lab.pods import Pod

ECHO_PORT = 8100
_PORTS = ({"name": "echo", "containerPort": ECHO_PORT, "protocol": "TCP"},)
# What the clusters' own objects are called that the tests make beside policies and pods.
KINDS: tuple[Any, ...] = (RawNetworkPolicy, RawPod)


# Without a default route, as in a namespace of one's own, the server cannot find an address to call itself by.
_ADVERTISED = "192.0.2.250"


def server_flags(folder: Path) -> tuple[str, ...]:
    """What the lab's API server is started with: an audit log in its folder, and an address to call itself by."""
    return *audit.flags(folder), f"--advertise-address={_ADVERTISED}"


class LabCluster:
    """A lab whose pods a real API server knows and a real enforcer guards; use as a context manager.

    Processes of the node reach the API server (and the ports of `more_ports`) on their own loopback.
    """

    def __init__(self, server: ApiServer, folder: Path, names: Sequence[str], *, ipv6: bool = False,
                 dual: bool = False, more_ports: Sequence[int] = (),
                 guard: type[Enforcer] | type[Judge] = Enforcer) -> None:  # fmt: skip
        """With `dual` the API server knows the IPv6 addresses; with `ipv6` the enforcer does, too."""
        self.lab = Lab(names)
        self.server = server
        self.folder = folder
        self._ports = (int(server.url.rsplit(":", 1)[1]), *more_ports)
        self._ipv6, self._dual = ipv6, ipv6 or dual
        self._guard = guard
        self._closing = ExitStack()
        self.client = Client(KubeConfig.from_file(server.kubeconfig).get())
        self.enforcer: Enforcer

    def __enter__(self) -> Self:
        with ExitStack() as building:
            building.callback(self.client.close)
            building.enter_context(self.lab)
            self._relay(building)
            building.callback(self._forget)
            self._tell()
            # ICMP rejects come at once then, instead of one a second: a refusal is seen as one.
            self.lab.sysctl("node", net__ipv4__icmp_ratelimit=0)
            guard = self._guard(self.lab, self.server.kubeconfig, self.folder, pods.NODE, ipv6=self._ipv6)
            if isinstance(guard, Enforcer):
                self.enforcer = guard
            self._closing = building.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def _relay(self, closing: ExitStack) -> None:
        command = [sys.executable, "-m", relay.__name__, self.lab.space("node"), *(str(port) for port in self._ports)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        closing.callback(child.wait)
        closing.callback(child.terminate)
        assert child.stdout is not None
        closing.callback(child.stdout.close)
        if child.stdout.readline().strip() != relay.READY.encode():
            message = f"the relay into the node's namespace ended with {child.wait()}"
            raise RuntimeError(message)

    def _tell(self) -> None:
        """The node before the pods: an enforcer takes for local what runs on an address of its node."""
        self.client.create(RawNode(metadata=ObjectMeta(name=pods.NODE)))
        addresses = [pods.NODE_UPLINK4] + ([pods.NODE_UPLINK6] if self._dual else [])
        internal = {"status": {"addresses": [{"type": "InternalIP", "address": text} for text in addresses]}}
        self.client.patch(NodeStatus, pods.NODE, internal, patch_type=PatchType.MERGE)
        # The API server marks new nodes as not ready; here nobody else would take that back.
        self.client.patch(RawNode, pods.NODE, {"spec": {"taints": []}}, patch_type=PatchType.MERGE)
        for name in sorted({pod.namespace for pod in self.lab.pods}):
            with suppress(ApiError):  # kube-system is there from the start
                self.client.create(RawNamespace(metadata=ObjectMeta(name=name)))
        for pod in self.lab.pods:
            self.add_pod(pod)

    def add_pod(self, pod: Pod, labels: Mapping[str, str] | None = None, *, running: bool = True) -> None:
        """Tell of a pod; without `running` its node has not said yet that it runs."""
        spec = {
            "nodeName": pods.NODE,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "example.invalid/none", "ports": list(_PORTS)}],
        }
        metadata = ObjectMeta(name=pod.name, namespace=pod.namespace, labels={"app": pod.app, **(labels or {})})
        self.client.create(RawPod(metadata=metadata, spec=spec))
        if running:
            self.run_pod(pod.namespace, pod.name, pod)

    def run_pod(self, namespace: str, name: str, place: Pod) -> None:
        """Say what a node's agent would: the pod runs, with the addresses of a namespace of the lab."""
        addresses = [place.ip4, place.ip6] if self._dual else [place.ip4]
        status = {
            "phase": "Running", "hostIP": pods.NODE_UPLINK4, "hostIPs": [{"ip": pods.NODE_UPLINK4}],
            "podIP": addresses[0], "podIPs": [{"ip": text} for text in addresses],
            "conditions": [{"type": "Ready", "status": "True"}],
        }  # fmt: skip
        self.client.patch(PodStatus, name, {"status": status}, namespace=namespace, patch_type=PatchType.MERGE)

    def remove_pod(self, pod: Pod) -> None:
        """Delete a pod from the API; its namespace and processes go on, as those of a successor."""
        self.client.delete(RawPod, pod.name, namespace=pod.namespace)

    def _forget(self) -> None:
        for name in sorted({pod.namespace for pod in self.lab.pods}):
            for kind in KINDS:
                self.client.deletecollection(kind, namespace=name)
        self.client.delete(RawNode, pods.NODE)

    def policy(self, namespace: str, name: str, spec: Mapping[str, Any]) -> None:
        """Somebody's NetworkPolicy, not ours."""
        self.client.create(RawNetworkPolicy(metadata=ObjectMeta(name=name, namespace=namespace), spec=dict(spec)))

    def remove_policy(self, namespace: str, name: str) -> None:
        """Take a NetworkPolicy away."""
        self.client.delete(RawNetworkPolicy, name, namespace=namespace)

    def policies(self) -> dict[str, dict[str, Any]]:
        """Every NetworkPolicy by namespace/name."""
        found = self.client.list(RawNetworkPolicy, namespace="*")
        return {f"{i['metadata']['namespace']}/{i['metadata']['name']}": dict(i) for i in found}

    def objects(self) -> dict[str, dict[str, Any]]:
        """Everything that a response may touch, without what any write changes (versions, managed fields)."""
        found: dict[str, dict[str, Any]] = {}
        for kind in (*KINDS, RawNamespace):
            scope: dict[str, Any] = {} if kind is RawNamespace else {"namespace": "*"}
            for item in self.client.list(kind, **scope):
                document = dict(item)
                metadata = document["metadata"]
                kept = {
                    k: v for k, v in metadata.items() if k not in ("resourceVersion", "managedFields", "generation")
                }
                key = f"{kind._api_info.resource.kind} {metadata.get('namespace', '')}/{metadata['name']}"
                found[key] = {**document, "metadata": kept}
        return found

    def filter_bridged(self, on: bool) -> None:
        """Whether packets between pods of the bridge pass the node's IP rules at all."""
        self.lab.run("node", ["sysctl", "-qw", f"net.bridge.bridge-nf-call-iptables={int(on)}"])

    def serve(self, *names: str, port: int = ECHO_PORT) -> None:
        """Start an echo server in each of these pods (or outside) and wait until it listens."""
        for name in names:
            child = self.lab.start(name, [sys.executable, "-m", "tests.e2e.enforcement.talk", "serve", str(port)])
            mark = f":{port:04X} "

            def listens(pid: int = child.pid, mark: str = mark) -> bool:
                return any(mark in line[:60] for line in Path(f"/proc/{pid}/net/tcp6").read_text().splitlines())

            wait_for(listens, f"the echo server of {name}", 20.0)

    def prober(self, where: str, kind: str, address: str, port: int = ECHO_PORT, every: float = EVERY_S) -> Prober:
        """Start a prober in a pod."""
        return Prober(self.lab, self.folder, where, kind, address, port, every)
