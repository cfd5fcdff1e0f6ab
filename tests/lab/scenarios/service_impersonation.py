"""A Service's name and address taken by something else, and Services that are served by who should."""

from __future__ import annotations

from tests.lab.pods import BY_NAME
from tests.lab.stage import Case, Stage

CAST = ("web", "api", "db", "client1", "client3", "attacker")
NAME, CLUSTER_IP = "web.shop.svc.cluster.local", "10.96.0.10"
ASK = "curl -sS -o /dev/null"


def _ask(stage: Stage, who: str, host: str, port: int, address: str, path: str = "page/300") -> None:
    """Ask for a host that resolves to an address, as a hosts file or a false answer makes it."""
    stage.tool(who, f"{ASK} --resolve {host}:{port}:{address} http://{host}:{port}/{path}")


def _false_server(stage: Stage) -> None:
    stage.server("web", "http 80")
    stage.server("attacker", "http 80")
    _ask(stage, "client1", NAME, 80, BY_NAME["web"].ip4)
    with stage.attack("service_impersonation", "attacker", "client1"):
        for number in range(4):
            _ask(stage, "client1", NAME, 80, BY_NAME["attacker"].ip4, f"page/{number}")


def _false_address(stage: Stage) -> None:
    stage.server("web", "http 80")
    stage.tool("attacker", f"ping -q -c 2 {BY_NAME['client1'].ip4}")
    with stage.attack("service_impersonation", "attacker", "client1"):
        stage.tool("attacker", f"ip address add {CLUSTER_IP}/32 dev eth0")
        stage.attempt("attacker", f"arping -q -c 3 -A -i eth0 -S {CLUSTER_IP} {CLUSTER_IP}")
        stage.attempt("attacker", f"arping -q -c 3 -i eth0 -S {CLUSTER_IP} {BY_NAME['client1'].ip4}")


def _own_endpoints(stage: Stage) -> None:
    stage.server("web", "http 80")
    stage.server("api", "http 80 8080")
    for host in (NAME, "web.shop.svc", "web.shop", "web"):
        _ask(stage, "client1", host, 80, BY_NAME["web"].ip4)
        _ask(stage, "attacker", host, 80, BY_NAME["web"].ip4)
    # A proxy that is behind a Service of its own gets requests for others; a name outside the cluster; an address.
    _ask(stage, "client3", NAME, 80, BY_NAME["api"].ip4)
    _ask(stage, "client3", "www.example", 8080, BY_NAME["api"].ip4)
    stage.tool("client3", f"{ASK} http://{BY_NAME['api'].ip4}:8080/page/300")
    stage.silence("service_impersonation", note="endpoints by every form of their name, and through a proxy")


CASES = (
    Case("service_impersonation", "false_server", "A Service's name leads to a pod not behind it", _false_server,
         pods=CAST, inventory=True),
    Case("service_impersonation", "false_cluster_address", "A pod claims a Service's cluster address by ARP",
         _false_address, pods=CAST, inventory=True),
    Case("service_impersonation", "own_endpoints", "Services asked for by name at their own endpoints", _own_endpoints,
         pods=CAST, inventory=True),
)  # fmt: skip
