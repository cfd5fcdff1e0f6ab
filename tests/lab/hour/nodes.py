"""Three nodes with their pods, a wire between them, and the world outside, as network namespaces.

    pods ── veth-<pod> ── br0 [node1..3] eth0 ── br0 [wire] ── eth0 [outside]

Pods of node *k* live in 10.244.k.0/24, nodes are 192.0.2.(10 + k), everything outside has documentation addresses.
Each node's packets are recorded where they enter the node, or leave its own stack, so once per node.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.lab import Lab, wait_for

NODES = (1, 2, 3)
OUTSIDE, WIRE = "outside", "wire"
OUTSIDE_NODE = "192.0.2.100"
RESOLVERS, TIME, MIRROR, VAULT, INTAKE = (f"203.0.113.{n}" for n in (53, 50, 20, 40, 60))
SITES = tuple(f"203.0.113.{n}" for n in range(101, 131))
_NETNS = Path("/etc/netns")
_RESOLV = "nameserver {}\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5 timeout:2\n"


@dataclass(frozen=True)
class Pod:
    """A pod; `host` is the last part of its address."""

    name: str
    node: int
    host: int
    workload: str
    kind: str = "Deployment"
    namespace: str = "shop"

    @property
    def ip(self) -> str:
        """The IPv4 address."""
        return f"10.244.{self.node}.{self.host}"

    @property
    def mac(self) -> str:
        """A locally administered hardware address."""
        return f"02:0a:f4:{self.node:02x}:00:{self.host:02x}"

    @property
    def veth(self) -> str:
        """The node's side of the pod's interface."""
        return f"veth-{self.name}"


PODS = (
    Pod("ingress", 1, 20, "ingress", "DaemonSet", "ingress"),
    Pod("web-1", 1, 10, "web"),
    Pod("api", 1, 11, "api"),
    Pod("dns-1", 1, 53, "dns", "Deployment", "kube-system"),
    Pod("prometheus", 1, 30, "prometheus", "StatefulSet", "monitoring"),
    Pod("web-2", 2, 10, "web"),
    Pod("db", 2, 12, "db", "StatefulSet"),
    Pod("cache", 2, 13, "cache", "StatefulSet"),
    Pod("video", 2, 14, "video"),
    Pod("worker-1", 2, 21, "worker"),
    Pod("collector", 2, 40, "collector", "StatefulSet", "monitoring"),
    Pod("web-3", 3, 10, "web"),
    Pod("web-4", 3, 15, "web"),
    Pod("worker-2", 3, 21, "worker"),
    Pod("reports", 3, 22, "reports", "CronJob", "reports"),
    Pod("backup", 3, 31, "backup", "CronJob", "reports"),
    Pod("ci", 3, 41, "runner", "Deployment", "ci"),
    Pod("dns-2", 3, 53, "dns", "Deployment", "kube-system"),
)
# What a kubelet asks: the port, and whether it is asked by HTTP.
POD_PORTS = {
    "ingress": (80, False), "web-1": (80, True), "web-2": (80, True), "web-3": (80, True), "web-4": (80, True),
    "api": (8080, True), "video": (80, True), "db": (5432, False), "cache": (6379, False), "collector": (514, False),
    "prometheus": (9090, False), "dns-1": (53, False), "dns-2": (53, False),
}  # fmt: skip
BY_NAME = {pod.name: pod for pod in PODS}


def node_ip(node: int) -> str:
    """The address of a node on the wire."""
    return f"192.0.2.{10 + node}"


class Nodes(Lab):
    """The running nodes; use as a context manager, like a lab."""

    def close(self) -> None:
        """Stop everything, and remove what the namespaces found in /etc."""
        spaces = self.spaces
        super().close()
        for space in spaces:
            shutil.rmtree(_NETNS / space, ignore_errors=True)

    def _build(self) -> None:
        self._add_space(WIRE)
        self._ip(WIRE, "link add br0 type bridge mcast_snooping 0")
        self._ip(WIRE, "link set br0 up")
        self._on_wire(OUTSIDE, OUTSIDE_NODE)
        for address in (RESOLVERS, TIME, MIRROR, VAULT, INTAKE, *SITES):
            self._ip(OUTSIDE, f"addr add {address}/32 dev lo")
        for node in NODES:
            self._add_node(node)
        for pod in PODS:
            self._add_fleet_pod(pod)

    def _on_wire(self, name: str, address: str) -> None:
        self._add_space(name)
        peer = f"peer name eth0 netns {self.space(name)}"
        self._ip(WIRE, f"link add port-{name} type veth {peer}")
        self._ip(WIRE, f"link set port-{name} master br0 up")
        self._plain_frames(name, "eth0")
        self._plain_frames(WIRE, f"port-{name}")
        self._ip(name, "link set eth0 up")
        self._ip(name, f"addr add {address}/24 dev eth0")
        if name != OUTSIDE:
            self._ip(name, f"route add default via {OUTSIDE_NODE}")

    def _add_node(self, node: int) -> None:
        name = f"node{node}"
        self._on_wire(name, node_ip(node))
        self._ip(name, f"link add br0 address 02:0a:f4:{node:02x}:00:01 type bridge mcast_snooping 0")
        self._ip(name, f"addr add 10.244.{node}.1/24 dev br0")
        self._ip(name, "link set br0 up")
        self.sysctl(name, net__ipv4__ip_forward=1, net__ipv4__conf__all__rp_filter=0)
        for other in NODES:
            if other != node:
                self._ip(name, f"route add 10.244.{other}.0/24 via {node_ip(other)}")
        self._ip(OUTSIDE, f"route add 10.244.{node}.0/24 via {node_ip(node)}")
        self._resolver(name, node)

    def _add_fleet_pod(self, pod: Pod) -> None:
        node = f"node{pod.node}"
        self._add_space(pod.name)
        self._ip(node, f"link add {pod.veth} type veth peer name eth0 address {pod.mac} netns {self.space(pod.name)}")
        self._plain_frames(node, pod.veth)
        self._plain_frames(pod.name, "eth0")
        self._ip(node, f"link set {pod.veth} master br0 up")
        self._ip(pod.name, "link set eth0 up")
        self._ip(pod.name, f"addr add {pod.ip}/24 dev eth0")
        self._ip(pod.name, f"route add default via 10.244.{pod.node}.1")
        self._resolver(pod.name, pod.node)

    def _resolver(self, name: str, node: int) -> None:
        """`ip netns exec` puts this file over /etc/resolv.conf."""
        folder = _NETNS / self.space(name)
        folder.mkdir(parents=True)
        server = BY_NAME["dns-2" if node == NODES[-1] else "dns-1"].ip
        (folder / "resolv.conf").write_text(_RESOLV.format(server))


class NodeCapture:
    """A dumpcap on each node, in files of five minutes, `node<k>_<number>_<time>.pcapng` in `folder`."""

    def __init__(self, nodes: Nodes, folder: Path) -> None:
        self._nodes, self._folder = nodes, folder
        self._children: list[subprocess.Popen[bytes]] = []

    def command(self, node: int) -> list[str]:
        """The command line: what enters, and what the node's own stack sends."""
        ways = {pod.veth: f"10.244.{node}.1" for pod in PODS if pod.node == node} | {"eth0": node_ip(node)}
        words = ["dumpcap", "-q", "-B", "16", "-N", "200000", "-C", "50000000", "-b", "duration:300"]
        for device, own in ways.items():
            words += ["-i", device, "-f", f"inbound or (outbound and src host {own})"]
        return [*words, "-w", str(self._folder / f"node{node}.pcapng")]

    def start(self) -> None:
        """Start, and wait until each has its first file."""
        for node in NODES:
            log = self._folder / f"node{node}.log"
            with log.open("wb") as file:
                self._children.append(self._nodes.start(f"node{node}", self.command(node), stderr=file.fileno()))
            wait_for(lambda log=log: b"File: " in log.read_bytes(), f"dumpcap on node{node}")  # type: ignore[misc]

    def stop(self) -> None:
        """End the recording; packets still queued are written."""
        for child in self._children:
            child.send_signal(signal.SIGINT)
        for child in self._children:
            child.wait(timeout=60)
