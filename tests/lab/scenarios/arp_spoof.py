"""ARP spoofing with arpspoof and arping, and the moves, proxies and replacements that look like it."""

from __future__ import annotations

import time

from tests.lab import pods
from tests.lab.pods import BY_NAME, GATEWAY4
from tests.lab.stage import Case, Stage, finish

CAST = ("web", "api", "client1", "client2", "attacker")
WEB, CLIENT = BY_NAME["web"], BY_NAME["client1"]
SHARED = "10.244.1.200"  # an address that moves between web and api, as failover software does it


def _talk(stage: Stage, seconds: int) -> None:
    """Ordinary traffic, so that machines are known before anything happens."""
    stage.server("web", "http 80")
    finish(
        stage.client("client1", f"browse --to {WEB.ip4} --rate 1 --seconds {seconds} --seed 11"),
        stage.client("client2", f"browse --to {WEB.ip4} --rate 1 --seconds {seconds} --seed 12"),
        stage.client("attacker", f"browse --to {WEB.ip4} --rate 0.5 --seconds {seconds} --seed 13"),
    )


def _gateway(stage: Stage) -> None:
    _talk(stage, 5)
    stage.server(pods.OUTSIDE, "http 80")
    stage.lab.sysctl("attacker", net__ipv4__ip_forward=1, net__ipv4__conf__all__send_redirects=0,
                     net__ipv4__conf__eth0__send_redirects=0)  # fmt: skip
    with stage.attack("arp_spoof", "attacker", "client1", claims=GATEWAY4):
        tool = stage.begin("attacker", f"arpspoof -i eth0 -t {CLIENT.ip4} {GATEWAY4}")
        finish(stage.client("client1", f"browse --to {pods.OUTSIDE_WEB[0]} --rate 1 --seconds 12 --seed 21"))
        tool.terminate()
        tool.wait(15)


def _both_ways(stage: Stage) -> None:
    _talk(stage, 5)
    stage.lab.sysctl("attacker", net__ipv4__ip_forward=1, net__ipv4__conf__all__send_redirects=0,
                     net__ipv4__conf__eth0__send_redirects=0)  # fmt: skip
    with stage.attack("arp_spoof", "attacker", "(both ends)", claims=f"{WEB.ip4} and {CLIENT.ip4}"):
        tool = stage.begin("attacker", f"arpspoof -i eth0 -r -t {CLIENT.ip4} {WEB.ip4}")
        finish(stage.client("client1", f"browse --to {WEB.ip4} --rate 1 --seconds 12 --seed 22"))
        tool.terminate()
        tool.wait(15)


def _announced(stage: Stage) -> None:
    _talk(stage, 5)
    with stage.attack("arp_spoof", "attacker", "(everybody)", claims=WEB.ip4):
        tool = stage.begin("attacker", f"arping -q -U -i eth0 -S {WEB.ip4} -c 12 {WEB.ip4}")
        for _ in range(4):
            stage.attempt("client1", f"curl -sS -o /dev/null --max-time 2 http://{WEB.ip4}/page/500")
            stage.attempt("client2", f"curl -sS -o /dev/null --max-time 2 http://{WEB.ip4}/page/500")
            stage.tool("web", f"arping -q -i eth0 -c 1 {CLIENT.ip4}")
        tool.wait(20)


def _take(stage: Stage, pod: str) -> None:
    stage.tool(pod, f"ip addr add {SHARED}/24 dev eth0")
    stage.attempt(pod, f"arping -q -U -i eth0 -S {SHARED} -c 3 {SHARED}")


def _failover(stage: Stage) -> None:
    for pod in ("web", "api"):
        stage.server(pod, "http 80")
    _take(stage, "web")
    browsing = stage.client("client1", f"browse --to {SHARED} --rate 0.5 --seconds 50 --seed 31")
    time.sleep(12)
    stage.tool("web", f"ip addr del {SHARED}/24 dev eth0")
    _take(stage, "api")
    time.sleep(24)
    stage.tool("api", f"ip addr del {SHARED}/24 dev eth0")
    _take(stage, "web")
    browsing.wait(60)
    stage.silence("arp_spoof", note="one address moves from web to api and back, as VRRP, keepalived and MetalLB do")


def _replaced(stage: Stage) -> None:
    _talk(stage, 6)
    stage.tool("web", "ip link set eth0 down")
    stage.tool("web", "ip link set eth0 address 02:0a:f4:01:0a:0a")
    stage.tool("web", "ip link set eth0 up")
    stage.tool("web", f"ip route replace default via {GATEWAY4}")
    stage.attempt("web", f"arping -q -U -i eth0 -S {WEB.ip4} -c 2 {WEB.ip4}")
    finish(
        stage.client("client1", f"browse --to {WEB.ip4} --rate 1 --seconds 10 --seed 41"),
        stage.client("client2", f"browse --to {WEB.ip4} --rate 1 --seconds 10 --seed 42"),
    )
    stage.silence("arp_spoof", note="the address of a pod that died belongs to a new pod")


def _proxy(stage: Stage) -> None:
    stage.server("web", "http 80")
    for pod in ("client1", "client2", "web"):
        stage.tool(pod, f"ip route replace {pods.OTHER_NODE_CIDR4} dev eth0")
    stage.lab.sysctl("api", net__ipv4__ip_forward=1, net__ipv4__conf__eth0__proxy_arp=1,
                     net__ipv4__conf__eth0__send_redirects=0, net__ipv4__conf__all__send_redirects=0)  # fmt: skip
    # A proxy answers for what it reaches by another interface.
    stage.tool("api", "ip link add other type veth peer name end")
    stage.tool("api", "ip link set other up")
    stage.tool("api", "ip link set end up")
    stage.tool("api", f"ip route replace {pods.OTHER_NODE_CIDR4} dev other")
    for host in range(10, 22):
        stage.attempt("client1", f"ping -q -c 1 -W 1 10.244.2.{host}")
        stage.attempt("client2", f"ping -q -c 1 -W 1 10.244.2.{host}")
    stage.silence("arp_spoof", note="one machine answers for all addresses of another network")


CASES = (
    Case("arp_spoof", "arpspoof_gateway", "arpspoof claims the gateway towards one client", _gateway, pods=CAST,
         notes="The gateway is the node itself, whose own ARP enters nowhere and is not in the file."),
    Case("arp_spoof", "arpspoof_both_ways", "arpspoof stands between a client and a server", _both_ways, pods=CAST),
    Case("arp_spoof", "arping_announced", "arping announces a server's address as its own", _announced, pods=CAST),
    Case("arp_spoof", "failover", "An address moves to another machine and back", _failover, pods=CAST),
    Case("arp_spoof", "pod_replaced", "A pod's address is given to a new pod", _replaced, pods=CAST),
    Case("arp_spoof", "proxy", "A proxy answers ARP for a whole network", _proxy, pods=CAST),
)  # fmt: skip
