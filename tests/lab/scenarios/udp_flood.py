"""UDP floods by hping3, and senders that nobody answers because nobody has to."""

from __future__ import annotations

from tests.lab import pods
from tests.lab.stage import Case, Stage

WEB = pods.BY_NAME["web"]
COLLECTOR = pods.BY_NAME["monitor"]
SENDERS = ("client1", "client2", "client3", "client4")


def _spoofed(stage: Stage) -> None:
    with stage.attack("udp_flood", "(spoofed: one source per packet)", "web", note="a closed port"):
        stage.attempt(pods.OUTSIDE, f"hping3 -q --udp -p 9999 -d 32 --rand-source -i u300 -c 24000 {WEB.ip4}")
    for kind in ("port_scan_vertical", "port_scan_horizontal", "udp_scan"):
        stage.silence(kind, note="no spoofed source is a scanner")


def _one_pod(stage: Stage) -> None:
    """Under its own address, a new source port for each packet, as hping3 does by itself."""
    with stage.attack("udp_flood", "attacker", "web"):
        stage.attempt("attacker", f"hping3 -q --udp -p 9999 -d 32 -i u300 -c 24000 {WEB.ip4}")


def _metrics(stage: Stage) -> None:
    """Four pods send metrics, 250 packets a second each from one socket, to a collector that never answers."""
    stage.server("monitor", "swallow 8125", udp=True)
    text = f"hping3 -q --udp -k -s 5000 -p 8125 -d 64 -i u4000 -c 6000 {COLLECTOR.ip4}"
    for child in [stage.begin(pod, text) for pod in SENDERS]:
        child.wait(120)
    stage.silence(note="1,000 packets a second of four flows that are never answered")


CASES = (
    Case("udp_flood", "udp_spoofed_slowly", "UDP flood from spoofed sources to a closed port", _spoofed, keep=64),
    Case("udp_flood", "udp_one_pod", "UDP flood from one pod under its own address", _one_pod, keep=64),
    Case("udp_flood", "metrics", "A metrics collector that never answers", _metrics, pods=("monitor", *SENDERS),
         keep=64),
)  # fmt: skip
