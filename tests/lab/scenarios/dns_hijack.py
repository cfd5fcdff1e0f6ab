"""A resolver that lies about the cluster's names, and one that tells the truth."""

from __future__ import annotations

from tests.lab import pods
from tests.lab.pods import BY_NAME
from tests.lab.stage import Case, Stage, cluster_dns, finish, outside_dns

CAST = ("web", "api", "db", "dns", "client1", "client2", "attacker")
DNS, BAD = BY_NAME["dns"].ip4, BY_NAME["attacker"].ip4
ASK = "service --rate 4 --count 24"


def _honest(stage: Stage) -> None:
    cluster_dns(stage)
    outside_dns(stage)


def _lying(stage: Stage) -> None:
    _honest(stage)
    finish(stage.lookup("client1", f"{ASK} --server {DNS} --seed 3"))
    # Everything below the cluster's domain leads to the attacker, everything else outside.
    stage.dnsmasq("attacker", f"--address=/cluster.local/{BAD}", f"--address=/#/{pods.OUTSIDE_WEB[20]}")
    with stage.attack("dns_hijack", "(lying resolver)", "client1"):
        finish(stage.lookup("client1", f"{ASK} --server {BAD} --seed 4"))


def _truthful(stage: Stage) -> None:
    _honest(stage)
    finish(
        stage.lookup("client1", f"{ASK} --server {DNS} --seed 3"),
        stage.lookup("client1", f"search --rate 3 --count 20 --server {DNS} --seed 5"),
        stage.lookup("client2", f"browsing --rate 3 --count 20 --server {DNS} --seed 6"),
        stage.lookup("client2", f"browsing --rate 1 --count 6 --server {pods.OUTSIDE_DNS} --seed 7"),
    )
    stage.silence("dns_hijack", note="the cluster's resolver, a search path, some questions past it")


CASES = (
    Case("dns_hijack", "lying_resolver", "A client's resolver is replaced by one that lies", _lying, pods=CAST,
         inventory=True),
    Case("dns_hijack", "truthful_resolver", "The cluster's own resolver, and past it", _truthful, pods=CAST,
         inventory=True),
)  # fmt: skip
