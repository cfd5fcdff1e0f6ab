"""The demo: four minutes of a shop's traffic with a port scan, a SYN flood and a DNS tunnel in it."""

from __future__ import annotations

from tests.lab import pods
from tests.lab.scenarios.dns_tunnel import iodine
from tests.lab.stage import Case, Stage, clock, finish, ordinary, shop

SECONDS = 240
SCAN_AT, FLOOD_AT, TUNNEL_AT = 45.0, 90.0, 130.0
WEB = pods.BY_NAME["web"].ip4


def mixed(stage: Stage) -> None:
    """Benign traffic all along; the three attacks one after the other, from three different places."""
    shop(stage)
    until = clock()
    clients = ordinary(stage, SECONDS)
    until(SCAN_AT)
    with stage.attack("port_scan_vertical", "attacker", "web"):
        stage.tool("attacker", f"nmap -sS -n -Pn --top-ports 400 --max-rate 80 {WEB}")
    until(FLOOD_AT)
    with stage.attack("syn_flood", "(spoofed: one source per packet)", "web", port=80):
        stage.attempt(pods.OUTSIDE, f"hping3 -q -S -p 80 --rand-source -i u400 -c 16000 {WEB}")
    until(TUNNEL_AT)
    with stage.attack("dns_tunnel", "client4", "dns", domain="hidden.example"):
        iodine(stage, "client4", pods.BY_NAME["dns"].ip4, "NULL", fetches=12)
    finish(*clients)
    stage.silence("port_scan_horizontal", note="no spoofed source is a scanner")
    stage.silence("dns_tunnel", src=pods.BY_NAME["dns"].ip4, note="the forwarder only passes on what it was asked")
    stage.silence(note="apart from the three alerts above")


CASES = (
    Case(
        "demo", "mixed", "A shop's ordinary traffic with a port scan, a SYN flood and a DNS tunnel", mixed,
        pods=None, keep=256, inventory=True,
        notes="One source per packet in the flood; all other traffic is benign. Frames that are not DNS are cut at 256"
        " bytes: use the IP length fields.",
    ),
)  # fmt: skip
