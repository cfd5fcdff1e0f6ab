"""Sweeps of many hosts over TCP, UDP and ICMP; and clients that talk to many hosts because that is their work."""

from __future__ import annotations

from collections.abc import Callable

from tests.lab import pods
from tests.lab.stage import Case, Stage, finish, outside_dns

EMPTY = "198.51.100.0/24"  # routed to the outside, where only the name servers answer
EMPTY6 = "2001:db8:1::/120"
QUICK = "-n --max-retries 0"


def _nmap(
    options: str, kind: str = "port_scan_horizontal", network: str = EMPTY, note: str = ""
) -> Callable[[Stage], None]:
    def play(stage: Stage) -> None:
        with stage.attack(kind, "attacker", network, note=note):
            stage.tool("attacker", f"nmap {QUICK} {options} {network}")

    return play


def _answered(stage: Stage) -> None:
    """Sixty hosts that all have the port open: every probe is a handshake, nothing is ever asked."""
    stage.server(pods.OUTSIDE, "http 80")
    with stage.attack("port_scan_horizontal", "attacker", "203.0.113.0/26", note="60 of 64 hosts have the port open"):
        stage.tool("attacker", f"nmap {QUICK} -Pn -sT -p 80 203.0.113.0/26")


def _from_outside(stage: Stage) -> None:
    with stage.attack("port_scan_horizontal", pods.OUTSIDE4, pods.POD_CIDR4, note="mostly addresses without a pod"):
        stage.tool(pods.OUTSIDE, f"nmap {QUICK} -Pn -sS -p 22 --min-rate 50 {pods.POD_CIDR4}")


def _sixty_servers(stage: Stage) -> None:
    stage.server(pods.OUTSIDE, "http 80")
    webs = " ".join(pods.OUTSIDE_WEB)
    finish(stage.client("client1", f"everywhere --to {webs} --rate 3"))
    stage.silence(note="60 web servers, a page from each")


def _resolver(stage: Stage) -> None:
    """A recursive resolver asks many name servers; here each address of the outside answers."""
    for address in pods.OUTSIDE_WEB[:40]:
        stage.server(pods.OUTSIDE, f"names 53 --address {address}", udp=True)
    for number, address in enumerate(pods.OUTSIDE_WEB[:40]):
        finish(stage.lookup("client1", f"browsing --server {address} --count 2 --rate 20 --seed {number}"))
    stage.silence(note="40 name servers, every query answered")


def _pings(stage: Stage) -> None:
    """A monitor pings five hosts every second."""
    children = [
        stage.begin("monitor", f"ping -q -c 20 -i 1 {address}")
        for address in (pods.GATEWAY4, pods.OUTSIDE4, *pods.OUTSIDE_WEB[:3])
    ]
    finish(*children)
    stage.silence(note="five hosts pinged over and over")


def _lookups_and_visits(stage: Stage) -> None:
    """A crawler: looks a site up, then visits it; a few of the sites are down."""
    outside_dns(stage)
    stage.server(pods.OUTSIDE, "http 80")
    webs = " ".join((*pods.OUTSIDE_WEB[:50], *(f"198.51.100.{host}" for host in range(201, 205))))
    visits = stage.client("client1", f"everywhere --to {webs} --rate 4")
    finish(stage.lookup("client1", f"browsing --server {pods.OUTSIDE_DNS} --count 60 --rate 4 --seed 7"), visits)
    stage.silence(note="50 sites answer, 4 are down")


CASES = (
    Case("host_sweep", "sweep_tcp_syn", "nmap SYN sweep of a /24 on tcp/80", _nmap("-Pn -sS -p 80 --min-rate 50")),
    Case("host_sweep", "sweep_tcp_connect", "nmap connect sweep of a /25 on tcp/22",
         _nmap("-Pn -sT -p 22 --min-rate 30", network="198.51.100.0/25")),
    Case("host_sweep", "sweep_tcp_answered", "nmap connect sweep of 60 hosts with the port open", _answered),
    Case("host_sweep", "sweep_tcp_other_node", "nmap SYN sweep of the next node's pods on tcp/6379",
         _nmap("-Pn -sS -p 6379 --min-rate 50", network=pods.OTHER_NODE_CIDR4)),
    Case("host_sweep", "sweep_tcp_ipv6", "nmap SYN sweep of an IPv6 /120 on tcp/443",
         _nmap("-6 -Pn -sS -p 443 --min-rate 50", network=EMPTY6)),
    Case("host_sweep", "sweep_tcp_outside", "nmap SYN sweep of the pod range from outside", _from_outside),
    Case("host_sweep", "sweep_udp", "nmap UDP sweep of a /24 on udp/161",
         _nmap("-Pn -sU -p 161 --min-rate 50", kind="udp_scan")),
    Case("host_sweep", "sweep_icmp", "nmap ICMP echo sweep of a /24",
         _nmap("-sn -PE --min-rate 50", kind="icmp_sweep")),
    Case("host_sweep", "sixty_servers", "A client with sixty web servers", _sixty_servers, pods=("client1",)),
    Case("host_sweep", "resolver", "A recursive resolver with forty name servers", _resolver, pods=("client1",)),
    Case("host_sweep", "crawler", "A crawler with fifty sites, four of them down", _lookups_and_visits,
         pods=("client1",)),
    Case("host_sweep", "pings", "A monitor that pings five hosts", _pings, pods=("monitor",)),
)  # fmt: skip
