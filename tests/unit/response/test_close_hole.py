"""The proposed fix of a misconfiguration: what it keeps, what it closes, and that people decide."""

from __future__ import annotations

from response.decide import decide
from response.edges import EdgeMemory
from response.plan import Attempt, PlanContext, climb
from response.policyfile import DEFAULT_POLICY_FILE, parse_policy
from response.settings import ResponseSettings
from schemas.response import ResponseDecision
from schemas.word import iso_time
from tests.unit.response.cluster_cases import API, DB, NOW, OUTSIDE, VIEW, WEB, WEB_B, decision, end, policy
from tests.unit.response.test_decide import alert
from tests.unit.response.test_edges import edge, memory

# Somebody logs in to the shop's web pods in clear text.
HOLE = decision(
    "close_hole", attackers=(end(API),), victims=(end(WEB, 23, "TCP"),), category="misconfiguration", mode="approve"
)
SERVED = (
    edge("bank/Deployment/api", 8080, initiated=False),
    edge("bank/Deployment/api", 23, initiated=False),
    edge("192.0.2.7", 443),
)


def tried(asked: ResponseDecision, edges: EdgeMemory, view: object = VIEW) -> Attempt:
    context = PlanContext(asked, view, ResponseSettings(), iso_time(NOW + 600), edges)  # type: ignore[arg-type]
    return climb(context)[-1]


def test_the_fix_closes_the_hole_and_keeps_whom_the_workload_serves() -> None:
    attempt = tried(HOLE, memory(*SERVED))
    assert attempt.refusal is None, attempt.refusal
    assert attempt.plan is not None
    assert attempt.proof is not None
    (manifest,) = attempt.plan.manifests
    assert manifest["spec"]["policyTypes"] == ["Ingress"]
    first = manifest["spec"]["ingress"][0]
    assert first["ports"] == [{"protocol": "TCP", "port": 8080}]
    assert first["from"][0]["podSelector"] == {"matchLabels": {"app": "api"}}
    assert attempt.proof.narrower
    assert all(row.blocked for row in attempt.proof.attack)
    statuses = {row.what: row.status for row in attempt.proof.recent}
    assert [status for what, status in statuses.items() if "8080" in what] == ["kept"]
    assert [status for what, status in statuses.items() if "23" in what.split()[-1]] in ([], ["cut"])
    assert attempt.plan.pods == (WEB.key, WEB_B.key)


def test_a_workload_of_which_nothing_is_known_is_not_closed() -> None:
    for edges in (memory(), memory(SERVED[1]), memory(SERVED[2])):
        attempt = tried(HOLE, edges)
        assert attempt.refusal is not None
        assert attempt.refusal.reason == "no_baseline"


def test_what_is_open_by_another_policy_cannot_be_closed_by_one_more() -> None:
    opening = policy("shop/open", {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{}]})
    attempt = tried(HOLE, memory(*SERVED), VIEW.with_policies(opening))
    assert attempt.refusal is not None
    assert attempt.refusal.reason == "not_blocked"


def test_several_open_workloads_and_hosts_outside_are_left_to_people() -> None:
    both = HOLE.model_copy(update={"victims": (end(WEB, 23, "TCP"), end(DB, 23, "TCP"))})
    for asked, reason in (
        (both, "many_subjects"),
        (HOLE.model_copy(update={"victims": (OUTSIDE,)}), "unknown_identity"),
    ):
        attempt = tried(asked, memory(*SERVED))
        assert attempt.refusal is not None
        assert attempt.refusal.reason == reason


def test_a_fix_is_never_enforced_without_approval() -> None:
    text = DEFAULT_POLICY_FILE.read_text().replace("mode: dry-run", "mode: enforce")
    made = decide(alert(kind="cleartext_credentials"), parse_policy(text, "test"))
    assert made is not None
    assert (made.mode, made.actions) == ("approve", ("close_hole",))
