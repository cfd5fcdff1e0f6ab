"""Domain names that an algorithm made, and names that machines make for honest reasons."""

from __future__ import annotations

from tests.lab import pods
from tests.lab.stage import Case, Stage, cluster_dns, finish, outside_dns

CAST = ("dns", "client1", "client2", "client3", "client4")
DNS = pods.BY_NAME["dns"].ip4


def _arithmetic(stage: Stage) -> None:
    outside_dns(stage)
    cluster_dns(stage)
    everyday = stage.lookup("client1", f"browsing --server {DNS} --rate 1 --count 25 --seed 61")
    with stage.attack("dga", "client1", DNS, domain="example"):
        finish(stage.lookup("client1", f"generated --server {DNS} --rate 1 --count 30 --seed 62"))
    finish(everyday)
    stage.silence("dga", src=DNS, note="the forwarder only passes on what it was asked")


def _machine_made(stage: Stage) -> None:
    outside_dns(stage)
    cluster_dns(stage)
    styles = (("client1", "hashed"), ("client2", "blocklist"), ("client3", "search"), ("client4", "browsing"))
    finish(
        *(stage.lookup(pod, f"{style} --server {DNS} --rate 8 --count 300 --seed 63") for pod, style in styles),
        stage.lookup("client4", f"reverse --server {DNS} --rate 8 --count 200 --seed 64"),
    )
    stage.silence("dga", note="hashes of content networks, a block list, search paths, reverse names, browsing")


CASES = (
    Case("dga", "arithmetic_slowly", "One name a second by an arithmetic generator", _arithmetic, CAST),
    Case("dga", "machine_made", "Names that machines make for honest reasons", _machine_made, CAST),
)
