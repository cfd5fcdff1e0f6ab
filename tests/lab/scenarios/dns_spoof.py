"""DNS spoofing with dnsspoof behind arpspoof, guessed ids; and double, late and parallel answers that are none."""

from __future__ import annotations

import time
from pathlib import Path

from tests.lab import pods
from tests.lab.pods import BY_NAME
from tests.lab.stage import Case, Stage, cluster_dns, finish, outside_dns

CAST = ("dns", "web", "client1", "client3", "attacker")
DNS, WEB, VICTIM = BY_NAME["dns"].ip4, BY_NAME["web"].ip4, BY_NAME["client3"]
HOSTS = Path("/dev/shm/sluicelab-dnsspoof")  # the tool wants a file


def _answers(stage: Stage, where: str, text: str) -> None:
    stage.listening(stage.module(where, "answers", text), 53, udp=True)


def _ask(stage: Stage, text: str) -> None:
    finish(stage.module("client3", "answers", f"parallel {text}"))


def _spoofed(stage: Stage) -> None:
    cluster_dns(stage)
    outside_dns(stage)
    _ask(stage, f"--server {DNS} --name web.shop.svc.cluster.local --count 4")
    HOSTS.write_text("203.0.113.66 web.shop.svc.cluster.local\n")
    stage.lab.sysctl("attacker", net__ipv4__ip_forward=1, net__ipv4__conf__all__send_redirects=0,
                     net__ipv4__conf__eth0__send_redirects=0)  # fmt: skip
    man = stage.begin("attacker", f"arpspoof -i eth0 -r -t {VICTIM.ip4} {DNS}")
    tool = stage.begin("attacker", f"dnsspoof -i eth0 -f {HOSTS} udp dst port 53 and src host {VICTIM.ip4}")
    time.sleep(5)
    with stage.attack("dns_spoof", DNS, "client3", domain="web.shop.svc.cluster.local"):
        # The answers bear the resolver's address; some are the resolver's own.
        _ask(stage, f"--server {DNS} --name web.shop.svc.cluster.local --count 10 --rate 1")
    tool.terminate()
    man.terminate()
    man.wait(15)
    tool.wait(15)
    HOSTS.unlink()


def _guessed(stage: Stage) -> None:
    ask = f"parallel --server {pods.OUTSIDE_DEAD} --name www.bank.example --count 8 --rate 1"
    asking = stage.module("client3", "answers", ask)
    time.sleep(2)
    with stage.attack("dns_spoof", pods.OUTSIDE_DEAD, "client3", domain="www.bank.example"):
        forged = f"guess --server {pods.OUTSIDE_DEAD} --to {VICTIM.ip4} --name www.bank.example --count 400 --rate 100"
        finish(stage.module("attacker", "answers", forged))
    asking.wait(60)


def _twice(stage: Stage) -> None:
    _answers(stage, "dns", "twice")
    _ask(stage, f"--server {DNS} --count 12 --rate 4")
    stage.silence("dns_spoof", note="every answer comes twice, and says the same")


def _late(stage: Stage) -> None:
    _answers(stage, "dns", "late")
    _ask(stage, f"--server {DNS} --count 12 --rate 2")
    time.sleep(7)
    stage.silence("dns_spoof", note="answers after six seconds fit no question any more")


def _parallel(stage: Stage) -> None:
    _answers(stage, "dns", "twice --address 203.0.113.10")
    _answers(stage, "web", "twice --address 203.0.113.20")
    _ask(stage, f"--server {DNS} --to {WEB} --count 12 --rate 4")
    stage.silence("dns_spoof", note="two resolvers are asked at once with one id and answer differently")


CASES = (
    Case("dns_spoof", "dnsspoof_in_the_middle", "dnsspoof forges answers behind arpspoof", _spoofed, pods=CAST),
    Case("dns_spoof", "ids_guessed", "Forged answers run through the ids of an open question", _guessed, pods=CAST),
    Case("dns_spoof", "answered_twice", "A resolver that answers twice alike", _twice, pods=CAST),
    Case("dns_spoof", "answered_late", "A resolver that answers after clients gave up", _late, pods=CAST),
    Case("dns_spoof", "asked_in_parallel", "A client that asks two resolvers at once", _parallel, pods=CAST),
)
