"""SYN floods by hping3 with a spoofed source per packet; and a client whose server is gone."""

from __future__ import annotations

from collections.abc import Callable

from tests.lab import pods
from tests.lab.stage import Case, Stage, finish

WEB = pods.BY_NAME["web"]
SPOOFED = "(spoofed: one source per packet)"
NO_SCANNER = "no spoofed source is a scanner"


def _flood(options: str, packets: int, cookies: int) -> Callable[[Stage], None]:
    def play(stage: Stage) -> None:
        stage.tool("web", f"sysctl -qw net.ipv4.tcp_syncookies={cookies} net.ipv4.tcp_max_syn_backlog=256")
        stage.server("web", "http 80")
        with stage.attack("syn_flood", SPOOFED, "web", note="sources are random, reserved ranges included"):
            stage.attempt(pods.OUTSIDE, f"hping3 -q -S {options} --rand-source -c {packets} {WEB.ip4}")
        for kind in ("port_scan_vertical", "port_scan_horizontal", "udp_scan"):
            stage.silence(kind, note=NO_SCANNER)

    return play


def _inside(stage: Stage) -> None:
    """The flood comes from a pod, which claims addresses that are not its own."""
    stage.server("web", "http 80")
    with stage.attack("syn_flood", SPOOFED, "web", note="enters on veth-attacker"):
        stage.attempt("attacker", f"hping3 -q -S -p 80 --rand-source -i u300 -c 12000 {WEB.ip4}")
    stage.silence("port_scan_horizontal", note=NO_SCANNER)


def _one_source(stage: Stage) -> None:
    stage.server("web", "http 80")
    with stage.attack("syn_flood", "attacker", "web", note="one real source; RSTs follow the answers"):
        stage.attempt("attacker", f"hping3 -q -S -p 80 -i u400 -c 8000 {WEB.ip4}")


def _dead_server(stage: Stage) -> None:
    """200 attempts with a bare SYN (and its repetition) each, to a host that is gone."""
    finish(stage.client("client1", f"connections --to {pods.OUTSIDE_DEAD} --port 443 --count 200 --rate 10"))
    stage.silence(note="200 unanswered connections of one client to one dead server")


CASES = (
    Case("syn_flood", "spoofed_port_80", "SYN flood from spoofed sources, SYN cookies on",
         _flood("-p 80 -i u400", 20_000, 1), keep=96),
    Case("syn_flood", "spoofed_no_cookies", "SYN flood from spoofed sources, the victim's queue fills",
         _flood("-p 80 -i u300", 24_000, 0), keep=96),
    Case("syn_flood", "spoofed_many_ports", "SYN flood from spoofed sources to increasing ports",
         _flood("-p ++1000 -i u400", 16_000, 1), keep=96),
    Case("syn_flood", "spoofed_by_pod", "A pod floods another pod with spoofed sources", _inside, keep=96),
    Case("syn_flood", "one_source", "SYN flood from one pod under its own address", _one_source, keep=96),
    Case("syn_flood", "dead_server", "A client keeps calling a server that is gone", _dead_server,
         pods=("web", "client1")),
)  # fmt: skip
