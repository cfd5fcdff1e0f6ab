"""DHCP starvation with dhcpstarv, and a segment whose machines start together."""

from __future__ import annotations

import time

from tests.lab import pods
from tests.lab.scenarios.rogue_dhcp import ASK, KEEP, serve
from tests.lab.stage import Case, Stage

CAST = ("web", "api", "db", "client1", "client2", "client3", "client4", "attacker")


def _starved(stage: Stage) -> None:
    serve(stage, "web", 150, 190)
    stage.tool("client1", ASK)
    stage.attempt("attacker", f"ping -q -c 1 {pods.BY_NAME['web'].ip4}")
    with stage.attack("dhcp_starvation", "attacker", "(server)"):
        tool = stage.begin("attacker", "dhcpstarv -i eth0")
        time.sleep(12)
        tool.terminate()
        tool.wait(10)


def _together(stage: Stage) -> None:
    serve(stage, "web", 150, 190)
    for asking in [stage.begin(pod, ASK) for pod in CAST if pod != "web"]:
        asking.wait(30)
    stage.silence("dhcp_starvation", note="seven machines start at once")


CASES = (
    Case("dhcp_starvation", "dhcpstarv", "dhcpstarv takes all leases of a pool", _starved, pods=CAST, keep=KEEP),
    Case("dhcp_starvation", "start_together", "Machines ask for leases together", _together, pods=CAST, keep=KEEP),
)
