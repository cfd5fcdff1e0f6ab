"""ARP scans with nmap and arp-scan, and machines that ask for many addresses with reason."""

from __future__ import annotations

from tests.lab.pods import BY_NAME, POD_CIDR4
from tests.lab.stage import Case, Stage, finish

CAST = ("web", "api", "client1", "monitor", "attacker")


def _scan(command: str) -> Case:
    def play(stage: Stage) -> None:
        stage.server("web", "http 80")
        finish(stage.client("client1", f"browse --to {BY_NAME['web'].ip4} --rate 1 --seconds 3 --seed 11"))
        with stage.attack("arp_scan", "attacker", POD_CIDR4):
            stage.tool("attacker", command)

    name = command.split(" ")[0].replace("-", "_")
    return Case("arp_scan", f"tool_{name}", f"{command.split(' ')[0]} over a /24 of pods", play, pods=CAST)


def _polls(stage: Stage) -> None:
    for _ in range(3):
        for pod in BY_NAME.values():
            stage.attempt("monitor", f"ping -q -c 1 -W 1 {pod.ip4}")
    stage.silence("arp_scan", note="a monitor asks for each of ten pods, half of which are not there")


def _dead(stage: Stage) -> None:
    for host in (101, 102, 103, 104, 105, 106):
        stage.attempt("client1", f"curl -sS -o /dev/null --max-time 3 http://10.244.1.{host}/")
    stage.silence("arp_scan", note="a client tries six back ends that are gone")


CASES = (
    _scan(f"nmap -sn -PR -n {POD_CIDR4}"),
    _scan(f"arp-scan -q -I eth0 {POD_CIDR4}"),
    Case("arp_scan", "monitor_polls", "A monitor asks for every pod again and again", _polls, pods=CAST),
    Case("arp_scan", "dead_back_ends", "A client retries back ends that are gone", _dead, pods=CAST),
)
