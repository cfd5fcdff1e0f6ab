"""Two nodes of ten pods each, routed as a cluster routes them, with Services by NAT in every node.

    pods a0..a9 ── veth-a* ── [node1] eth0 ──┐
                                             net0 [outside]
    pods b0..b9 ── veth-b* ── [node2] eth0 ──┘

Each pod has an address of its node's range and one route, to its node, which answers for everybody (proxy ARP): so
every packet of a pod passes the node's routing, policy and NAT, also that to a pod beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.inventory import EndpointPort, InventoryObject, ServiceEndpoint, ServicePort
from tests.lab.lab import Lab
from tests.lab.pods import OUTSIDE

CLUSTER = "lab"
NODES = {"node1": "192.0.2.1", "node2": "192.0.2.2"}
OUTSIDE4 = "192.0.2.100"
CLUSTER_NETWORKS = ("10.244.0.0/16", "192.0.2.1/32", "192.0.2.2/32")
PORT = 8000  # on which every pod serves
SERVICE, SERVICE_PORT = "10.96.0.10", 80
NODE_PORT = 30080
_GATEWAY = "169.254.1.1"  # nobody has it; the node answers for it


@dataclass(frozen=True)
class NodePod:
    """A pod of one of the two nodes."""

    name: str
    node: str
    ip4: str

    @property
    def veth(self) -> str:
        """The host's side of its interface."""
        return f"veth-{self.name}"

    @property
    def workload(self) -> str:
        """What it is a replica of: two pods of each node are alike."""
        return f"w{int(self.name[1:]) // 2}"


PODS = tuple(
    NodePod(f"{letter}{number}", node, f"10.244.{which}.{10 + number}")
    for which, (letter, node) in enumerate(zip("ab", NODES, strict=True), 1) for number in range(10)
)  # fmt: skip
BY_ADDRESS = {pod.ip4: pod for pod in PODS}
BACKENDS = tuple(pod for pod in PODS if pod.workload == "w0")


class TwoNodes(Lab):
    """The lab of two nodes; ``start`` and ``run`` take a pod's name, ``node1``, ``node2`` or ``outside``."""

    def _build(self) -> None:
        self._add_space(OUTSIDE)
        self._ip(OUTSIDE, "link add net0 type bridge mcast_snooping 0")
        self._ip(OUTSIDE, f"addr add {OUTSIDE4}/24 dev net0")
        self._ip(OUTSIDE, "link set net0 up")
        for number, (node, address) in enumerate(NODES.items(), 1):
            self._add_node(node, address, number)
        for pod in PODS:
            self._add_routed_pod(pod)
        for number, (node, address) in enumerate(NODES.items(), 1):
            other = next(name for name in NODES if name != node)
            self._ip(other, f"route add 10.244.{number}.0/24 via {address}")
            self._ip(OUTSIDE, f"route add 10.244.{number}.0/24 via {address}")
            self._translate(node)

    def _add_node(self, node: str, address: str, number: int) -> None:
        self._add_space(node)
        peer = f"peer name port{number} netns {self.space(OUTSIDE)}"
        self._ip(node, f"link add eth0 address 02:0a:f4:00:00:0{number} type veth {peer}")
        self._ip(OUTSIDE, f"link set port{number} master net0 up")
        self._ip(node, "link set eth0 up")
        self._ip(node, f"addr add {address}/24 dev eth0")
        self._ip(node, f"route add default via {OUTSIDE4}")
        self.sysctl(
            node, net__ipv4__ip_forward=1, net__ipv4__conf__all__rp_filter=0, net__ipv4__conf__default__rp_filter=0,
        )  # fmt: skip

    def _add_routed_pod(self, pod: NodePod) -> None:
        self._add_space(pod.name)
        self._ip(pod.node, f"link add {pod.veth} type veth peer name eth0 netns {self.space(pod.name)}")
        self._ip(pod.node, f"link set {pod.veth} up")
        # It answers at once: by default it waits for up to 0.8 s, lest somebody else knows better.
        veth = f"net__ipv4__{{}}__{pod.veth}__{{}}"
        self.sysctl(pod.node, **{veth.format("conf", "proxy_arp"): 1, veth.format("neigh", "proxy_delay"): 0})
        self._ip(pod.name, "link set eth0 up")
        self._ip(pod.name, f"addr add {pod.ip4}/32 dev eth0")
        self._ip(pod.name, f"route add {_GATEWAY} dev eth0 scope link")
        self._ip(pod.name, f"route add default via {_GATEWAY} dev eth0")
        self._ip(pod.node, f"route add {pod.ip4}/32 dev {pod.veth}")

    def _translate(self, node: str) -> None:
        """A Service and its NodePort in turn to their backends; pods leave the cluster under the node's address."""
        ends = ", ".join(f"{number} : {pod.ip4}" for number, pod in enumerate(BACKENDS))
        to = f"dnat to numgen inc mod {len(BACKENDS)} map {{ {ends} }}:{PORT}"
        rules = f"""
            table ip nat {{
                chain services {{
                    ip daddr {SERVICE} tcp dport {SERVICE_PORT} {to}
                    ip daddr {NODES[node]} tcp dport {NODE_PORT} meta mark set 0x4000 {to}
                }}
                chain prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
                chain output {{ type nat hook output priority -100; jump services; }}
                chain postrouting {{
                    type nat hook postrouting priority srcnat;
                    meta mark 0x4000 masquerade
                    ip saddr 10.244.0.0/16 ip daddr != {{ 10.244.0.0/16, {", ".join(NODES.values())} }} masquerade
                }}
            }}"""
        self.run(node, ["nft", rules])
        # Counting is off by default.
        self.sysctl(node, net__netfilter__nf_conntrack_acct=1)


def objects() -> list[InventoryObject]:
    """What the cluster would say of it."""
    spaces = [InventoryObject(kind="Namespace", uid="namespace-shop", cluster=CLUSTER, name="shop")]
    nodes = [
        InventoryObject(kind="Node", uid=f"node-{name}", cluster=CLUSTER, name=name, ips=(address,))
        for name, address in NODES.items()
    ]
    told = [
        InventoryObject(
            kind="Pod", uid=f"pod-{pod.name}", cluster=CLUSTER, namespace="shop", name=f"{pod.workload}-{pod.name}",
            ips=(pod.ip4,), labels={"app": pod.workload}, workload=f"Deployment/{pod.workload}", node=pod.node,
            interface=pod.veth, ports={"http": PORT},
        )
        for pod in PODS
    ]  # fmt: skip
    service = InventoryObject(
        kind="Service", uid="service-w0", cluster=CLUSTER, namespace="shop", name="w0", ips=(SERVICE,),
        service_ports=(ServicePort(name="http", port=SERVICE_PORT, target_port="http", node_port=NODE_PORT),),
        service_type="NodePort", selector={"app": "w0"},
    )  # fmt: skip
    behind = InventoryObject(
        kind="EndpointSlice", uid="slice-w0", cluster=CLUSTER, namespace="shop", name="w0-1", service="w0",
        endpoints=tuple(ServiceEndpoint(address=pod.ip4, node=pod.node) for pod in BACKENDS),
        endpoint_ports=(EndpointPort(name="http", port=PORT),),
    )  # fmt: skip
    ranges = [
        InventoryObject(kind="Range", uid="range-pods", cluster=CLUSTER, name="pods", ips=(CLUSTER_NETWORKS[0],),
                        role="internal")
    ]  # fmt: skip
    return [*spaces, *nodes, *told, service, behind, *ranges]
