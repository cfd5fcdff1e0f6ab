"""Made-up names below one zone and masses of questions, by dnsperf; and clients that merely ask a lot."""

from __future__ import annotations

from tests.lab import pods
from tests.lab.stage import Case, Stage, cluster_dns, finish, outside_dns

DNS = pods.BY_NAME["dns"]
CAST = ("dns", "client1", "client2", "client3")


def _made_up(count: int, seed: int) -> str:
    """A shell command that writes questions for so many made-up names."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    one = f'n=""; for(k=0;k<10;k++) n=n substr("{letters}",1+int(rand()*26),1)'
    return f"awk 'BEGIN{{srand({seed}); for(i=0;i<{count};i++){{{one}; print n \".shop.example A\"}}}}'"


def _known(count: int) -> str:
    """A shell command that writes so many questions for three names that exist and one that does not."""
    names = 'split("web api db nothing", n)'
    return f"awk 'BEGIN{{{names}; for(i=0;i<{count};i++) print n[1+i%4] \".shop.svc.cluster.local A\"}}'"


def _torture(stage: Stage, clients: tuple[str, ...], rate: int) -> None:
    cluster_dns(stage)
    stage.dnsmasq(pods.OUTSIDE, "--local=/example/", f"--listen-address={pods.OUTSIDE_DNS}", "--bind-interfaces")
    source = clients[0] if len(clients) == 1 else "(three pods)"
    with stage.attack("dns_flood", source, "dns", zone="shop.example"):
        finish(*(
            stage.begin(pod, ["sh", "-c", f"{_made_up(rate * 12, seed)} | dnsperf -s {DNS.ip4} -Q {rate} -n 1"])
            for seed, pod in enumerate(clients)
        ))  # fmt: skip


def _one(stage: Stage) -> None:
    _torture(stage, ("client1",), 200)


def _three(stage: Stage) -> None:
    _torture(stage, ("client1", "client2", "client3"), 60)


def _mass(stage: Stage) -> None:
    """The same four names, 2,500 times a second."""
    cluster_dns(stage)
    ask = f"{_known(20_000)} | dnsperf -s {DNS.ip4} -Q 2500 -n 1"
    with stage.attack("dns_flood", "client1", "dns"):
        finish(stage.begin("client1", ["sh", "-c", ask]))


def _crawl(stage: Stage) -> None:
    """Two pods look up many names by their search path, so that four of five questions fail; a third asks often."""
    cluster_dns(stage)
    outside_dns(stage)
    finish(
        stage.lookup("client1", f"search --server {DNS.ip4} --rate 30 --count 400 --seed 1"),
        stage.lookup("client2", f"blocklist --server {DNS.ip4} --rate 20 --count 300 --seed 2"),
        stage.begin("client3", ["sh", "-c", f"{_known(3000)} | dnsperf -s {DNS.ip4} -Q 200 -n 1"]),
    )
    stage.silence(note="search paths, a block list, and a client that asks 200 times a second")


CASES = (
    Case("dns_flood", "made_up_names_slowly", "One pod asks 200 made-up names a second below one zone", _one,
         pods=CAST),
    Case("dns_flood", "made_up_by_three_slowly", "Three pods ask made-up names below one zone", _three, pods=CAST),
    Case("dns_flood", "mass_of_questions_slowly", "One pod asks 2,500 times a second", _mass, pods=CAST),
    Case("dns_flood", "much_asked", "Clients that ask a lot: search paths, a block list, a busy one", _crawl,
         pods=CAST),
)  # fmt: skip
