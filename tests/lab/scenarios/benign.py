"""Five minutes of a shop in which nothing happens."""

from __future__ import annotations

from tests.lab.stage import Case, Stage, finish, ordinary, shop

SECONDS = 300


def day(stage: Stage) -> None:
    """Pages, queries, lookups, pings, visitors from outside, for five minutes."""
    shop(stage)
    finish(*ordinary(stage, SECONDS))
    stage.silence(note="ordinary traffic only")


CASES = (
    Case("benign", "ordinary_day", "Five minutes of ordinary traffic between ten pods and the outside", day,
         pods=None, keep=256, inventory=True),
)  # fmt: skip
