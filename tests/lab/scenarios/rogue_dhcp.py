"""Two DHCP servers on one segment, and one that does its work."""

from __future__ import annotations

import time

from tests.lab.stage import Case, Stage

CAST = ("web", "client1", "client2", "client3", "attacker")
KEEP = 600  # a DHCP message with its options
# The client asks and takes note of nothing: the lab's addresses stay.
ASK = "udhcpc -i eth0 -n -q -f -t 2 -T 2 -s /bin/true"


def serve(stage: Stage, pod: str, begin: int, end: int) -> None:
    """Give leases of the pods' network."""
    pool = f"--dhcp-range=10.244.1.{begin},10.244.1.{end},255.255.255.0,2m"
    fixed = "--keep-in-foreground --conf-file=/dev/null --port=0 --pid-file= --user=root --no-ping --dhcp-authoritative"
    leases = f"--dhcp-leasefile=/dev/shm/sluicelab-{pod}.leases"
    child = stage.begin(pod, ["dnsmasq", *fixed.split(), leases, "--interface=eth0", pool])
    stage.listening(child, 67, udp=True)


def _second(stage: Stage) -> None:
    serve(stage, "web", 150, 170)
    for _ in range(4):
        stage.tool("client1", ASK)
        stage.tool("client2", ASK)
    time.sleep(10)
    serve(stage, "attacker", 180, 190)
    with stage.attack("rogue_dhcp", "attacker", "(clients)"):
        stage.tool("client3", ASK)
        stage.tool("client2", ASK)


def _alone(stage: Stage) -> None:
    serve(stage, "web", 150, 170)
    for _ in range(2):
        for pod in ("client1", "client2", "client3", "attacker"):
            stage.tool(pod, ASK)
    stage.silence("rogue_dhcp", note="one server, four clients, leases asked for again")
    stage.silence("dhcp_starvation", note="one server, four clients, leases asked for again")


CASES = (
    Case("rogue_dhcp", "second_server", "A second DHCP server answers beside the first", _second, pods=CAST, keep=KEEP),
    Case("rogue_dhcp", "one_server", "One DHCP server and its clients", _alone, pods=CAST, keep=KEEP),
)
