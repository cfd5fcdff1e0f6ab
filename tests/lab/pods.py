"""The lab's cast: pods of one node with fixed names, addresses and identities, and the world outside it.

Pods live in 10.244.1.0/24 and fd00:244:1::/64; everything outside uses documentation ranges only
(RFC 5737: 192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24; RFC 3849: 2001:db8::/32).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

NODE = "node1"
GATEWAY4, GATEWAY6 = "10.244.1.1", "fd00:244:1::1"
POD_CIDR4, POD_CIDR6 = "10.244.1.0/24", "fd00:244:1::/64"
# The pod range of a second node that does not exist: packets to it really leave on the uplink.
OTHER_NODE_CIDR4 = "10.244.2.0/24"
UPLINK = "eth0"
NODE_UPLINK4, NODE_UPLINK6 = "192.0.2.1", "2001:db8::1"
OUTSIDE = "outside"
OUTSIDE4, OUTSIDE6 = "192.0.2.100", "2001:db8::100"
OUTSIDE_DNS = "198.51.100.53"  # answers for the names of the outside world
OUTSIDE_SINK = "198.51.100.54"  # name server of the zone leak.example
OUTSIDE_IODINE = "198.51.100.55"  # name server of the zone t.hidden.example
OUTSIDE_DEAD = "198.51.100.200"  # nobody answers here
OUTSIDE_WEB = tuple(f"203.0.113.{host}" for host in range(1, 61))


@dataclass(frozen=True)
class Pod:
    """One pod: `host` is the last part of both addresses; `labels` are what a NetworkPolicy selects by."""

    name: str
    host: int
    namespace: str
    workload: str
    workload_kind: str
    app: str

    @property
    def ip4(self) -> str:
        """The IPv4 address."""
        return f"10.244.1.{self.host}"

    @property
    def ip6(self) -> str:
        """The IPv6 address; its last group reads like the IPv4 one."""
        return f"fd00:244:1::{self.host}"

    @property
    def mac(self) -> str:
        """A locally administered hardware address, the same in every recording."""
        return f"02:0a:f4:01:00:{self.host:02x}"

    @property
    def veth(self) -> str:
        """The host-side interface on which the pod's packets enter the node."""
        return f"veth-{self.name}"


PODS = (
    Pod("web", 10, "shop", "web", "Deployment", "web"),
    Pod("api", 11, "shop", "api", "Deployment", "api"),
    Pod("db", 12, "shop", "db", "StatefulSet", "db"),
    Pod("dns", 53, "kube-system", "dns", "Deployment", "dns"),
    Pod("client1", 21, "shop", "frontend", "Deployment", "frontend"),
    Pod("client2", 22, "shop", "frontend", "Deployment", "frontend"),
    Pod("client3", 23, "shop", "worker", "Deployment", "worker"),
    Pod("client4", 24, "reports", "report-builder", "Deployment", "report-builder"),
    Pod("monitor", 30, "monitoring", "monitor", "StatefulSet", "monitor"),
    Pod("attacker", 66, "batch", "import-job", "Deployment", "import-job"),
)
BY_NAME = {pod.name: pod for pod in PODS}


@cache
def everybody() -> frozenset[str]:
    """Every address that somebody in the lab really has; any other source is spoofed."""
    routers = {GATEWAY4, GATEWAY6, NODE_UPLINK4, NODE_UPLINK6}
    return frozenset(routers).union(addresses(OUTSIDE), *(addresses(pod.name) for pod in PODS))


def addresses(name: str) -> frozenset[str]:
    """Every address of a pod or of `outside`; any other word is taken as an address itself."""
    if name in BY_NAME:
        return frozenset({BY_NAME[name].ip4, BY_NAME[name].ip6})
    if name == OUTSIDE:
        return frozenset({OUTSIDE4, OUTSIDE6, OUTSIDE_DNS, OUTSIDE_SINK, OUTSIDE_IODINE, *OUTSIDE_WEB})
    return frozenset({name})
