"""A database that is labelled sensitive, its own clients, and a stranger."""

from __future__ import annotations

from tests.lab.pods import BY_NAME
from tests.lab.stage import Case, Stage, finish

CAST = ("web", "api", "db", "client3", "monitor", "attacker")
DB = BY_NAME["db"].ip4


def _own(stage: Stage, seconds: int) -> None:
    finish(
        stage.client("api", f"query --to {DB} --port 5432 --rate 4 --seconds {seconds}"),
        stage.client("client3", f"query --to {DB} --port 5432 --rate 2 --seed 2 --seconds {seconds}"),
        stage.begin("monitor", f"ping -q -c {seconds} {DB}"),
    )


def _stranger(stage: Stage) -> None:
    stage.server("db", "query 5432")
    _own(stage, 5)
    with stage.attack("unauthorised_access", "attacker", "db"):
        finish(stage.client("attacker", f"query --to {DB} --port 5432 --rate 4 --seconds 4"))


def _neighbours(stage: Stage) -> None:
    stage.server("db", "query 5432")
    stage.server("web", "http 80")
    _own(stage, 8)
    stage.attempt("attacker", f"curl -sS -o /dev/null http://{BY_NAME['web'].ip4}/page/300")
    stage.attempt("attacker", f"curl -sS -m 2 -o /dev/null http://{DB}:81/")  # refused
    stage.silence("unauthorised_access", note="a database's own namespace, a ping, a refused stranger")


CASES = (
    Case("unauthorised_access", "database_stranger", "A workload of another namespace queries the shop's database",
         _stranger, pods=CAST, inventory=True),
    Case("unauthorised_access", "database_neighbours", "The database's own clients", _neighbours, pods=CAST,
         inventory=True),
)  # fmt: skip
