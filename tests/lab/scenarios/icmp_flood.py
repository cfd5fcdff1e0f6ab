"""ICMP floods by ping and hping3, and a path that is measured often."""

from __future__ import annotations

from tests.lab import pods
from tests.lab.stage import Case, Stage, finish

WEB = pods.BY_NAME["web"]


def _ping(stage: Stage) -> None:
    with stage.attack("icmp_flood", "attacker", "web", note="ping -f: the next when the answer is there"):
        stage.attempt("attacker", f"ping -q -f -c 12000 {WEB.ip4}")


def _ping_ipv6(stage: Stage) -> None:
    with stage.attack("icmp_flood", pods.BY_NAME["attacker"].ip6, pods.BY_NAME["web"].ip6):
        stage.attempt("attacker", f"ping -q -f -c 8000 {WEB.ip6}")


def _spoofed(stage: Stage) -> None:
    with stage.attack("icmp_flood", "(spoofed: one source per packet)", "web"):
        stage.attempt(pods.OUTSIDE, f"hping3 -q --icmp --rand-source -i u100 -c 40000 {WEB.ip4}")
    stage.silence("icmp_sweep", note="no spoofed source sweeps")


def _measured(stage: Stage) -> None:
    """Two pods measure the path to a server 25 times a second each, and a monitor looks whether it lives."""
    finish(
        stage.begin("client1", f"ping -q -i 0.04 -c 500 {WEB.ip4}"),
        stage.begin("client2", f"ping -q -i 0.04 -c 500 {WEB.ip4}"),
        stage.begin("monitor", f"ping -q -i 1 -c 20 {WEB.ip4}"),
    )
    stage.silence(note="51 echo requests a second from three pods")


CASES = (
    Case("icmp_flood", "ping_flood", "ping -f from one pod", _ping, keep=64),
    Case("icmp_flood", "ping_flood_ipv6", "ping -f from one pod over IPv6", _ping_ipv6, keep=96),
    Case("icmp_flood", "icmp_spoofed_slowly", "ICMP flood from spoofed sources", _spoofed, keep=64),
    Case("icmp_flood", "path_measured", "Three pods ping one server often", _measured,
         pods=("web", "client1", "client2", "monitor"), keep=64),
)  # fmt: skip
