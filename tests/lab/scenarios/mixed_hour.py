"""The shift that the mixed hour is made of: a shop's traffic with five attacks at known times.

Kept as event rows (`tests/torture/mixed_hour`), because what it is for begins at the topic, not at the packet;
`tests/torture/hour.py` makes an hour of several nodes of it.
"""

from __future__ import annotations

from tests.lab import pods
from tests.lab.scenarios.dns_tunnel import iodine
from tests.lab.stage import Case, Stage, clock, finish, ordinary, shop

SECONDS = 600
SCAN_AT, SWEEP_AT, FLOOD_AT, CONNECTIONS_AT, TUNNEL_AT = 60.0, 140.0, 220.0, 310.0, 420.0
WEB, DB, DNS = (pods.BY_NAME[name].ip4 for name in ("web", "db", "dns"))
SWEPT = "198.51.100.0/24"  # routed to the outside, where only the name servers answer
CALLERS = ("client1", "client2", "client3", "monitor")


def shift(stage: Stage) -> None:
    """Benign traffic all along; five attacks, each over before the next begins; quiet at both ends."""
    shop(stage)
    until = clock()
    clients = ordinary(stage, SECONDS)
    until(SCAN_AT)
    with stage.attack("port_scan_vertical", "attacker", "web"):
        stage.tool("attacker", f"nmap -sS -n -Pn --top-ports 300 --max-rate 60 {WEB}")
    until(SWEEP_AT)
    with stage.attack("port_scan_horizontal", "attacker", SWEPT):
        stage.tool("attacker", f"nmap -n --max-retries 0 -Pn -sS -p 22 --min-rate 20 --max-rate 40 {SWEPT}")
    until(FLOOD_AT)
    with stage.attack("syn_flood", "(spoofed: one source per packet)", "web", port=80):
        stage.attempt(pods.OUTSIDE, f"hping3 -q -S -p 80 --rand-source -i u800 -c 10000 {WEB}")
    until(CONNECTIONS_AT)
    with stage.attack("connection_flood", "(four pods)", DB, port=5432, connections=1600):
        text = f"connections --to {DB} --port 5432 --count 400 --rate 10"
        finish(*(stage.client(pod, text) for pod in CALLERS))
    until(TUNNEL_AT)
    with stage.attack("dns_tunnel", "client4", "dns", domain="hidden.example"):
        iodine(stage, "client4", DNS, "NULL", fetches=12)
    finish(*clients)
    stage.silence("dns_tunnel", src=DNS, note="the forwarder only passes on what it was asked")
    stage.silence(note="apart from the five alerts above")


CASES = (
    Case(
        "mixed_hour", "shift", "Ten minutes of a shop with a scan, a sweep, two floods and a DNS tunnel", shift,
        pods=None, keep=256, rows=True,
        notes="Event rows made by the exporter from a capture that is not kept. One source per packet in the SYN"
        " flood; all other traffic is benign.",
    ),
)  # fmt: skip
