"""Vertical scans by nmap in every style, the exact limit, and clients that use many ports or one closed port."""

from __future__ import annotations

from collections.abc import Callable

from tests.lab import pods
from tests.lab.stage import Case, Stage, finish, shop

WEB = pods.BY_NAME["web"]
QUICK = "-n -Pn --max-retries 1"


def _nmap(options: str, kind: str = "port_scan_vertical", address: str = WEB.ip4) -> Callable[[Stage], None]:
    def play(stage: Stage) -> None:
        stage.server("web", "http 80")
        with stage.attack(kind, "attacker", "web"):
            stage.tool("attacker", f"nmap {QUICK} {options} {address}")
        stage.silence(src=address, note="the scanned host only answers")

    return play


def _firewalled(stage: Stage) -> None:
    """Everything but port 80 is dropped without an answer, as a policy would."""
    stage.server("web", "http 80")
    stage.tool("web", "nft add table inet lab")
    stage.tool("web", "nft add chain inet lab in { type filter hook input priority 0 ; policy accept ; }")
    stage.tool("web", "nft add rule inet lab in tcp dport != 80 drop")
    with stage.attack("port_scan_vertical", "attacker", "web"):
        stage.tool("attacker", f"nmap {QUICK} -sS --top-ports 200 --min-rate 100 {WEB.ip4}")


def _slow(stage: Stage) -> None:
    with stage.attack("port_scan_vertical", "attacker", "web", note="one port a second; over 10 ports after 11 s"):
        stage.tool("attacker", f"nmap {QUICK} -sS --top-ports 40 --scan-delay 1s {WEB.ip4}")


def _tried(count: int) -> Callable[[Stage], None]:
    def play(stage: Stage) -> None:
        text = f"ports --to {WEB.ip4} --port 2001 --count {count} --rate 10"
        if count <= 10:
            finish(stage.client("attacker", text))
            stage.silence(note=f"{count} closed ports tried: at the limit, not above it")
            return
        with stage.attack("port_scan_vertical", "attacker", "web", note="one port above the limit of 10"):
            finish(stage.client("attacker", text))

    return play


def _passive(verb: str) -> Callable[[Stage], None]:
    def play(stage: Stage) -> None:
        stage.server("web", "passive 21")
        if verb == "ASK":
            finish(stage.client("attacker", f"downloads --to {WEB.ip4} --port 21 --verb ASK --count 24 --rate 1"))
            stage.silence(note="24 data ports, each established with payload both ways: used, not scanned")
            return
        with stage.attack(
            "port_scan_vertical", "attacker", "web", expect="report",
            note="24 data ports of a passive file server, payload from the server only; nothing is attacked",
        ):  # fmt: skip
            finish(stage.client("attacker", f"downloads --to {WEB.ip4} --port 21 --verb GET --count 24 --rate 1"))

    return play


def _retry(stage: Stage) -> None:
    finish(stage.client("attacker", f"retry --to {WEB.ip4} --port 9999 --count 60 --rate 3"))
    stage.silence(note="one closed port, 60 times: a broken client")


def _scraper(stage: Stage) -> None:
    """A monitor asks each service on its ports every two seconds, one of which is closed."""
    shop(stage)
    targets = (("web", 80), ("api", 8080), ("db", 5432), ("web", 9100), ("api", 9100), ("db", 9100))
    rounds = "--count 15 --rate 0.5"
    probes = [
        stage.client("monitor", f"retry --to {pods.BY_NAME[name].ip4} --port {port} {rounds}") for name, port in targets
    ]
    finish(*probes)
    stage.silence(note="six host and port pairs over and over, half of them closed")


def _several_services(stage: Stage) -> None:
    """A gateway-like server: fourteen ports, all of them really used by one client."""
    ports = [8000 + number for number in range(14)]
    stage.server("web", "http " + " ".join(map(str, ports)))
    for port in ports:
        finish(stage.client("attacker", f"browse --to {WEB.ip4} --port {port} --rate 3 --seconds 2 --seed {port}"))
    stage.silence(note="14 ports of one host, all answered with payload both ways")


CASES = (
    Case("port_scan", "syn", "nmap SYN scan of 1,000 ports in 5 s", _nmap("-sS --max-rate 200")),
    Case("port_scan", "syn_burst", "nmap SYN scan of 1,000 ports within one second", _nmap("-sS")),
    Case("port_scan", "connect", "nmap connect scan of 300 ports", _nmap("-sT --top-ports 300")),
    Case("port_scan", "fin", "nmap FIN scan of 200 ports", _nmap("-sF --top-ports 200")),
    Case("port_scan", "null", "nmap NULL scan of 200 ports", _nmap("-sN --top-ports 200")),
    Case("port_scan", "xmas", "nmap Xmas scan of 200 ports", _nmap("-sX --top-ports 200")),
    Case("port_scan", "ack", "nmap ACK scan of 200 ports", _nmap("-sA --top-ports 200")),
    Case("port_scan", "udp", "nmap UDP scan of 60 ports",
         _nmap("-sU --top-ports 60 --max-rtt-timeout 100ms", "udp_scan"),
         notes="The victim answers with ICMP errors at the kernel's limited rate, so most probes stay unanswered."),
    Case("port_scan", "syn_ipv6", "nmap SYN scan of 300 ports over IPv6",
         _nmap("-6 -sS --top-ports 300", address=WEB.ip6)),
    Case("port_scan", "syn_firewalled", "nmap SYN scan of a host that drops all but one port", _firewalled),
    Case("port_scan", "syn_slow", "nmap SYN scan at one port a second", _slow),
    Case("port_scan", "service_versions", "nmap version detection on 120 ports",
         _nmap("-sV --version-light --top-ports 120")),
    Case("port_scan", "ports_10", "Ten closed ports tried", _tried(10)),
    Case("port_scan", "ports_11", "Eleven closed ports tried", _tried(11)),
    Case("port_scan", "passive_both_ways", "Passive file server, payload both ways on 24 data ports", _passive("ASK")),
    Case("port_scan", "passive_downloads", "Passive file server, 24 downloads", _passive("GET"), notes="A bare"
         " handshake counts as tried and payload both ways does not; payload one way is between the two."),
    Case("port_scan", "retry_closed", "A client that retries one closed port", _retry),
    Case("port_scan", "monitor", "A monitor that probes six services", _scraper, pods=None),
    Case("port_scan", "fourteen_services", "Fourteen ports of one host in ordinary use", _several_services),
)  # fmt: skip
