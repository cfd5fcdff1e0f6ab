"""How much may be contained at all, and how room comes back."""

from __future__ import annotations

import pytest

from response.objects import QUARANTINE_LABEL
from response.settings import BudgetSettings, ResponseSettings
from schemas.action import Action
from tests.unit.response.cluster_cases import NOW, OUTSIDE, WEB, WEB_B, decision, end
from tests.unit.response.test_orders import RESPONSE, Desk

QUARANTINE = decision("quarantine_pod", mode="enforce")


def many(desk: Desk, count: int, now: float = NOW) -> list[str]:
    """Decisions against as many destinations, one after the other."""
    said: list[Action] = []
    for number in range(count):
        victim = OUTSIDE.model_copy(update={"ip": f"198.51.100.{number}"})
        asked = decision("quarantine_pod", mode="enforce", id=f"r{number}", victims=(victim,),
                         attackers=(end(WEB if number % 2 else WEB_B),))  # fmt: skip
        said += desk.decided(asked, now)
    return [f"{item.outcome} {item.reason}" for item in said]


@pytest.mark.parametrize(
    ("budget", "reason"),
    [({"cluster": 1}, "budget_cluster"), ({"per_minute": 1}, "budget_minute"),
     ({"per_namespace": 1}, "budget_namespace"), ({"replica_share": 0.5}, "budget_replicas"),
     ({"stop_after": 1}, "budget_stop")],
)  # fmt: skip
def test_budgets(budget: dict[str, float], reason: str) -> None:
    desk = Desk(ResponseSettings(budgets=BudgetSettings.model_validate({"replica_share": 1, **budget})))
    assert many(desk, 2) == ["applied proven", f"refused {reason}"]
    assert len(desk.gateway.policies) == 1


def test_budgets_recover_with_time_and_room() -> None:
    desk = Desk(ResponseSettings(budgets=BudgetSettings(cluster=1, replica_share=1)))
    assert many(desk, 2) == ["applied proven", "refused budget_cluster"]
    desk.looked(NOW + 600)
    assert many(desk, 1, NOW + 601) == ["applied proven"]


def test_resume_begins_the_hour_anew() -> None:
    desk = Desk(ResponseSettings(budgets=BudgetSettings(stop_after=1, replica_share=1)))
    assert many(desk, 2) == ["applied proven", "refused budget_stop"]
    assert desk.said("resume", "*") == ["resumed command"]
    assert many(desk, 2) == ["applied proven"]


def test_a_repeat_is_not_counted_twice() -> None:
    desk = Desk(ResponseSettings(budgets=BudgetSettings(per_minute=1, cluster=1, per_namespace=1, stop_after=5)))
    desk.decided(QUARANTINE)
    more = QUARANTINE.model_copy(update={"victims": (*QUARANTINE.victims, end(WEB_B)), "alert_revision": 2})
    assert [item.outcome for item in desk.decided(more, NOW + 5)] in ([], ["applied"])
    assert desk.gateway.pod_metadata["shop/web-a"]["labels"] == {QUARANTINE_LABEL: RESPONSE}
