"""Reflected floods: questions under a victim's address to sixty outside servers, and to a server of ours.

The attacker sits outside, so that its questions never pass the node: what the node sees are the answers.
"""

from __future__ import annotations

import dns.message

from tests.lab import pods
from tests.lab.stage import Case, Stage, cluster_dns, finish, outside_dns

WEB, DNS = pods.BY_NAME["web"], pods.BY_NAME["dns"]
REFLECTORS = "203.0.113.1-60"
NOTHING_ASKED = "the questions are not in the capture"
_ANSWER = ",".join(["x" * 250] * 4)  # more than dnsmasq puts into one datagram would be cut


def _question() -> str:
    """A question whose answer is more than ten times as long."""
    return dns.message.make_query("big.example", "TXT", use_edns=0, payload=4096, id=7).to_wire().hex()


def _forging(stage: Stage) -> None:
    for interface in ("all", "lo", "default"):
        stage.tool(pods.OUTSIDE, f"sysctl -qw net.ipv4.conf.{interface}.rp_filter=0")


def _dns(stage: Stage) -> None:
    _forging(stage)
    listen = [f"--listen-address={address}" for address in pods.OUTSIDE_WEB]
    stage.dnsmasq(pods.OUTSIDE, *listen, "--bind-interfaces", f"--txt-record=big.example,{_ANSWER}")
    with stage.attack("amplification", "(sixty name servers)", "web", note=NOTHING_ASKED):
        for port in range(40_000, 40_012):
            stage.attempt(pods.OUTSIDE, f"nping --udp -S {WEB.ip4} -g {port} -p 53 --data {_question()} --rate 400 "
                                        f"-c 5 -H -N -q {REFLECTORS}")  # fmt: skip
    for kind in ("port_scan_vertical", "udp_scan", "port_scan_horizontal"):
        stage.silence(kind, note="servers that were asked in another's name are no scanners")


def _synack(stage: Stage) -> None:
    _forging(stage)
    stage.server(pods.OUTSIDE, "http 80")
    with stage.attack("amplification", "(sixty web servers)", "web", note=NOTHING_ASKED):
        stage.attempt(pods.OUTSIDE, f"nping --tcp -S {WEB.ip4} --flags syn -p 80 --rate 400 -c 80 -H -N -q "
                                    f"{REFLECTORS}")  # fmt: skip
    for kind in ("port_scan_vertical", "port_scan_horizontal", "syn_flood"):
        stage.silence(kind, note="servers that were asked in another's name are no scanners")


def _reflector(stage: Stage) -> None:
    """The cluster's own name server is asked from outside, in the name of one address, for a long answer."""
    stage.dnsmasq("dns", f"--txt-record=big.example,{_ANSWER}")
    with stage.attack("amplification", "(the cluster's name server)", "203.0.113.40",
                      note="the victim is who seems to ask"):  # fmt: skip
        stage.attempt(pods.OUTSIDE, f"nping --udp -S 203.0.113.40 -g 4444 -p 53 --data {_question()} --rate 200 "
                                    f"-c 3000 -H -N -q {DNS.ip4}")  # fmt: skip


def _busy_resolver(stage: Stage) -> None:
    """Four pods ask a resolver, which asks outside: 160 questions a second, all asked for."""
    cluster_dns(stage)
    outside_dns(stage)
    clients = ("client1", "client2", "client3", "client4")
    finish(*(stage.lookup(pod, f"browsing --server {DNS.ip4} --rate 40 --count 800 --seed {seed}")
             for seed, pod in enumerate(clients)))  # fmt: skip
    stage.silence(note="every answer was asked for")


CASES = (
    Case("amplification", "reflected_dns", "Sixty name servers answer a victim that never asked", _dns,
         pods=("web",), keep=96),
    Case("amplification", "reflected_synack", "Sixty web servers send SYN-ACKs to a victim that never asked", _synack,
         pods=("web",), keep=96),
    Case("amplification", "own_reflector_slowly", "Our name server is used as a reflector", _reflector, pods=("dns",),
         keep=96),
    Case("amplification", "busy_resolver", "A resolver that is asked and asks a lot", _busy_resolver,
         pods=("dns", "client1", "client2", "client3", "client4"), keep=96),
)  # fmt: skip
