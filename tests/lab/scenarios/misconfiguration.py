"""Policies that nobody enforces, one that is wider than meant, and traffic that all of them allow."""

from __future__ import annotations

from tests.lab import pods
from tests.lab.pods import BY_NAME
from tests.lab.stage import Case, Stage, cluster_dns, finish, outside_dns

CAST = ("web", "db", "dns", "client3", "attacker")
DB, WEB, DNS = (BY_NAME[name].ip4 for name in ("db", "web", "dns"))
ASK = "curl -sS -o /dev/null"


def _ordinary(stage: Stage) -> None:
    """What the policies allow: the database's clients, pages for everybody, names by the cluster's resolver."""
    stage.server("web", "http 80")
    stage.server("db", "query 5432")
    cluster_dns(stage)
    outside_dns(stage)
    finish(
        stage.client("client3", f"query --to {DB} --port 5432 --rate 4 --seconds 5"),
        stage.lookup("attacker", f"browsing --rate 3 --count 12 --server {DNS} --seed 2"),
        stage.lookup("client3", f"service --rate 3 --count 12 --server {DNS} --seed 3"),
    )
    for who in ("attacker", "client3", pods.OUTSIDE):
        stage.tool(who, f"{ASK} http://{WEB}/page/300")


def _unenforced(stage: Stage) -> None:
    _ordinary(stage)
    with stage.attack("misconfiguration", "(no enforcement)", "db"):
        finish(stage.client("attacker", f"query --to {DB} --port 5432 --rate 4 --seconds 3"))


def _hole(stage: Stage) -> None:
    _ordinary(stage)
    with stage.attack("misconfiguration", "(rule without destinations)", pods.OUTSIDE_DNS):
        finish(stage.lookup("attacker", f"browsing --rate 3 --count 9 --server {pods.OUTSIDE_DNS} --seed 4"))


def _unenforced_ipv6(stage: Stage) -> None:
    _ordinary(stage)
    with stage.attack("misconfiguration", "(no enforcement)", BY_NAME["db"].ip6):
        finish(stage.client("attacker", f"query --to {BY_NAME['db'].ip6} --port 5432 --rate 4 --seconds 3"))


def _kept(stage: Stage) -> None:
    _ordinary(stage)
    stage.attempt("attacker", f"curl -sS -m 2 -o /dev/null http://{DB}:81/")  # refused: nothing got through
    stage.tool("node", f"{ASK} http://{WEB}/page/300")  # as a kubelet's probe
    stage.silence("misconfiguration", note="what policies allow, a refused stranger, a probe, a resolver's questions")


CASES = (
    Case("misconfiguration", "policy_not_enforced", "A pod speaks with a database that policies close to it",
         _unenforced, pods=CAST, inventory=True, policies=True),
    Case("misconfiguration", "policy_not_enforced_ipv6", "The same over IPv6", _unenforced_ipv6, pods=CAST,
         inventory=True, policies=True),
    Case("misconfiguration", "port_53_to_the_world", "Questions to a name server outside, by a rule for all addresses",
         _hole, pods=CAST, inventory=True, policies=True),
    Case("misconfiguration", "policies_kept", "Traffic that the policies allow", _kept, pods=CAST, inventory=True,
         policies=True),
)  # fmt: skip
