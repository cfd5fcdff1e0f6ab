"""Looking after containments: expiry, drift, new proofs, early release, deadlines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from response import reconcile
from response.cluster_site import Site
from response.gateway import Managed
from response.ledger import Containment
from response.prove import Proof
from response.settings import BudgetSettings, ResponseSettings, UpkeepSettings
from response.standing import prove_standing
from schemas.action import Outcome
from schemas.policy.cluster import ClusterView
from schemas.word import iso_time
from tests.unit.response.cluster_cases import API, NOW, VIEW, WEB, WEB_B, MemoryGateway, decision, policy
from tests.unit.response.test_budgets import many
from tests.unit.response.test_orders import RESPONSE, TWO, Desk

POLICY = f"shop/sluicegate-{RESPONSE}"
BLOCK = decision("block_egress_destination", "quarantine_pod", mode="enforce")
QUARANTINE = decision("quarantine_pod", mode="enforce")


def upkeep(**values: object) -> ResponseSettings:
    return ResponseSettings(upkeep=UpkeepSettings.model_validate(values))


def contained(settings: ResponseSettings | None = None) -> Desk:
    desk = Desk(settings)
    (applied,) = desk.decided(BLOCK)
    assert applied.outcome == "applied", applied.message
    return desk


def packets(desk: Desk, outcome: Outcome, now: float) -> None:
    """What the verification of packets says of the containment."""
    (applied,) = [item for item in desk.audit if item.outcome == "applied"]
    said = applied.model_copy(update={"outcome": outcome, "id": f"{outcome}-{now}", "at": iso_time(now)})
    desk.audit.append(said)
    desk.responder.ledger.fold(said)


def test_a_quiet_look_changes_and_says_nothing() -> None:
    desk = contained()
    held = dict(desk.gateway.policies)
    assert [desk.looked(NOW + second) for second in (1, 60, 599)] == [[], [], []]
    assert desk.gateway.policies == held


def test_a_quarantine_that_nobody_touched_is_no_drift() -> None:
    desk = Desk()
    (applied,) = desk.decided(QUARANTINE)
    assert applied.outcome == "applied", applied.message
    assert [desk.looked(NOW + second) for second in (1, 2, 60)] == [[], [], []]


def test_what_is_due_goes_also_what_nobody_here_remembers() -> None:
    desk = contained()
    desk.audit.clear()
    desk.restart()
    assert desk.looked(NOW + 599) == []
    assert desk.looked(NOW + 600) == ["expired expired"]
    assert desk.gateway.policies == {}
    assert desk.looked(NOW + 601) == []


@pytest.mark.parametrize("damage", ["deleted", "changed", "unlabelled"])
def test_drift_is_repaired_exactly(damage: str) -> None:
    desk = Desk()
    desk.decided(QUARANTINE)
    held, labels = dict(desk.gateway.policies), dict(desk.gateway.pod_metadata)
    if damage == "deleted":
        desk.gateway.policies.clear()
    elif damage == "changed":
        desk.gateway.policies[POLICY] = {**held[POLICY], "spec": {**held[POLICY]["spec"], "egress": [{}]}}
    else:
        desk.gateway.pod_metadata.clear()
    assert desk.looked(NOW + 1) == ["repaired drift"]
    assert (desk.gateway.policies, desk.gateway.pod_metadata) == (held, labels)
    assert desk.looked(NOW + 2) == []


def test_drift_is_repaired_after_a_restart() -> None:
    desk = contained()
    held = dict(desk.gateway.policies)
    desk.gateway.policies.clear()
    desk.restart()
    assert desk.looked(NOW + 1) == ["repaired drift"]
    assert desk.gateway.policies == held


def test_drift_may_be_respected() -> None:
    desk = Desk(upkeep(drift="respect"))
    desk.decided(QUARANTINE)
    desk.gateway.policies.clear()
    assert desk.looked(NOW + 1) == ["cancelled respected"]
    assert (desk.gateway.policies, desk.gateway.pod_metadata) == ({}, {})


def test_who_undoes_us_again_and_again_wins() -> None:
    desk = contained(upkeep(repairs=2))
    said = []
    for second in range(1, 5):
        desk.gateway.policies.clear()
        said += desk.looked(NOW + second)
    assert said == ["repaired drift", "repaired drift", "cancelled contested"]


def test_what_is_taken_away_during_a_look_is_repaired_by_the_next() -> None:
    desk = contained()
    held = dict(desk.gateway.policies)
    real = desk.gateway.managed

    def managed_then_deleted(response_id: str | None = None) -> tuple[Managed, ...]:
        found = real()
        desk.gateway.policies.clear()
        return found

    desk.gateway.managed = managed_then_deleted  # type: ignore[method-assign]
    assert desk.looked(NOW + 1) == []
    assert desk.responder.unfinished
    desk.gateway.managed = real  # type: ignore[method-assign]
    assert desk.looked(NOW + 1) == ["repaired drift"]
    assert desk.gateway.policies == held


def test_a_repair_that_fails_is_tried_again() -> None:
    desk = contained()
    desk.gateway.policies.clear()
    desk.gateway.fail_on = ("apply NetworkPolicy",)
    assert desk.looked(NOW + 1) == ["drifted forbidden"]
    desk.gateway.fail_on = ()
    assert desk.looked(NOW + 2) == ["repaired drift"]


def test_the_same_policy_with_defaults_written_out_is_no_drift() -> None:
    desk = Desk()
    ports = decision("block_egress_destination", mode="enforce")
    desk.decided(ports)
    (key,) = desk.gateway.policies
    held = desk.gateway.policies[key]
    held["metadata"]["annotations"]["somebody.example/note"] = "seen"
    held["metadata"]["labels"]["team"] = "blue"
    held["spec"] = {"egress": held["spec"]["egress"], **held["spec"]}
    assert desk.looked(NOW + 1) == []


def test_a_default_deny_that_comes_later_turns_ours_into_a_hole_and_ours_goes_at_once() -> None:
    desk = contained()
    deny = policy("shop/deny", {"podSelector": {}, "policyTypes": ["Egress"]})
    desk.gateway.base = desk.gateway.base.with_policies(deny)
    said = desk.looked(NOW + 1)
    assert said[0] in ("cancelled widens", "cancelled already_blocked")
    assert POLICY not in desk.gateway.policies or "egress" not in desk.gateway.policies[POLICY]["spec"]


def test_a_policy_that_opens_the_attack_again_leads_to_the_next_rung() -> None:
    desk = contained()
    opening = policy("shop/open", {"podSelector": {"matchLabels": {"app": "web"}}, "egress": [{}]})
    desk.gateway.base = desk.gateway.base.with_policies(opening)
    assert desk.looked(NOW + 1) == ["cancelled not_blocked", "refused not_blocked", "refused not_blocked"]
    assert desk.gateway.policies == {}


def test_what_needed_approval_needs_it_again_for_the_next_rung() -> None:
    desk = Desk(TWO)
    desk.decided(BLOCK.model_copy(update={"mode": "approve"}))
    desk.said("approve")
    assert desk.said("approve", key="ben-1") == ["approved approval", "applied proven"]
    opening = policy("shop/open", {"podSelector": {"matchLabels": {"app": "web"}}, "egress": [{}]})
    desk.gateway.base = desk.gateway.base.with_policies(opening)
    desk.looked(NOW + 1)
    desk.gateway.base = VIEW
    assert all(a.outcome != "applied" for a in desk.decided(BLOCK.model_copy(update={"mode": "approve"}), NOW + 2))
    assert desk.gateway.policies == {}
    assert desk.said("approve", now=NOW + 3) == ["approved approval"], "one person is not enough the second time"


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which responses were proven again, in order."""
    made: list[str] = []

    def noted(known: Containment, view: ClusterView, site: Site) -> Proof | None:
        made.append(known.response_id)
        return prove_standing(known, view, site)

    monkeypatch.setattr(reconcile, "prove_standing", noted)
    return made


def test_proofs_are_made_again_only_after_a_change_that_matters(proofs: list[str]) -> None:
    desk = contained()
    desk.looked(NOW + 1)
    desk.looked(NOW + 2)
    assert proofs == [RESPONSE]
    relabelled = replace(WEB, labels={**WEB.labels, "x": "y"})
    changes = [
        replace(VIEW, pods=(relabelled, *VIEW.pods[1:])),
        VIEW,
        VIEW.with_policies(policy("shop/all", {"podSelector": {}, "policyTypes": ["Ingress"]})),
        replace(VIEW, namespaces={**VIEW.namespaces, "new": {}}),
    ]
    for number, view in enumerate(changes):
        proofs.clear()
        desk.gateway.base = view
        assert desk.looked(NOW + 10 + number) == []
        assert proofs == [RESPONSE], number
    proofs.clear()
    stranger = replace(API, name="api-b", ips=("10.0.1.11",))
    last = changes[-1]
    desk.gateway.base = replace(last, pods=(*last.pods, stranger))
    desk.looked(NOW + 20)
    assert proofs == [], "somebody else's pod cannot open what everybody was allowed before"


def test_many_proofs_are_spread_over_looks(proofs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "MAX_PROOFS", 1)
    desk = Desk(ResponseSettings(budgets=BudgetSettings(replica_share=1)))
    assert many(desk, 2) == ["applied proven", "applied proven"]
    seen = []
    for number in range(3):
        desk.looked(NOW + number)
        seen.append(desk.responder.unfinished)
    assert seen == [True, False, False]
    assert sorted(proofs) == ["r0", "r1"]


def test_a_block_follows_its_workload_to_a_new_replica() -> None:
    desk = contained()
    moved = replace(WEB, name="web-c", ips=("10.0.0.99",))
    desk.gateway.base = replace(VIEW, pods=(moved, *VIEW.pods[1:]))
    assert desk.looked(NOW + 1) == []
    assert POLICY in desk.gateway.policies


def test_a_block_stands_while_its_only_pod_starts_anew(proofs: list[str]) -> None:
    alone = replace(VIEW, pods=tuple(pod for pod in VIEW.pods if pod.name != "web-b"))
    desk = Desk(gateway=MemoryGateway(base=alone))
    desk.decided(BLOCK)
    held = dict(desk.gateway.policies)
    away = tuple(pod for pod in alone.pods if pod.name != "web-a")
    starting, started = replace(WEB, ips=()), replace(WEB, ips=("10.0.0.99",))
    for number, pods in enumerate((away, (starting, *away), (started, *away))):
        desk.gateway.base = replace(alone, pods=pods)
        assert desk.looked(NOW + 1 + number) == []
        assert desk.gateway.policies == held
    assert len(proofs) == 3
    opened = policy("shop/all", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]})
    desk.gateway.base = desk.gateway.base.with_policies(opened)
    assert desk.looked(NOW + 10)[0] == "cancelled not_blocked", "of the new address it is proven as of the old one"


def test_a_block_whose_pods_are_away_still_must_not_allow_others_anything() -> None:
    desk = contained()
    away = tuple(pod for pod in VIEW.pods if pod.name not in ("web-a", "web-b"))
    other = replace(WEB_B, name="web-c", workload="Deployment/other", ips=("10.0.0.77",))
    closed = policy("shop/closed", {"podSelector": {}, "policyTypes": ["Egress"]})
    desk.gateway.base = replace(VIEW, pods=(other, *away)).with_policies(closed)
    assert desk.looked(NOW + 1)[0] == "cancelled widens"


def test_a_quarantine_ends_with_its_pod() -> None:
    desk = Desk()
    desk.decided(QUARANTINE)
    desk.gateway.base = replace(VIEW, pods=(replace(WEB, name="web-c", ips=("10.0.0.99",)), *VIEW.pods[1:]))
    desk.gateway.pod_metadata.clear()
    assert desk.looked(NOW + 1) == ["released gone"]
    assert desk.gateway.policies == {}


def test_quiet_for_long_enough_releases_and_a_relapse_lasts_longer() -> None:
    desk = contained(upkeep(release_after_quiet_s=300))
    packets(desk, "effective", NOW + 10)
    assert desk.looked(NOW + 320) == []
    packets(desk, "quiet", NOW + 200)
    assert desk.looked(NOW + 499) == []
    assert desk.looked(NOW + 500) == ["released quiet"]
    assert desk.gateway.policies == {}
    relapse = BLOCK.model_copy(update={"id": "later-episode", "alert_id": "alert-2", "decided_tick": NOW + 600})
    (again,) = desk.decided(relapse, NOW + 600)
    assert (again.level, again.expires_at) == (1, iso_time(NOW + 600 + 3600))


def test_while_packets_still_run_against_it_a_containment_goes_on_for_longer() -> None:
    desk = contained()
    packets(desk, "effective", NOW + 10)
    assert desk.looked(NOW + 600) == ["extended goes_on"]
    known = desk.responder.ledger.get(RESPONSE)
    assert known is not None
    assert (known.level, known.expires_at) == (1, iso_time(NOW + 600 + 3600))
    assert desk.looked(NOW + 601) == []
    packets(desk, "quiet", NOW + 700)
    assert desk.looked(NOW + 700 + 1800) == ["released quiet"]
    assert desk.gateway.policies == {}


def test_a_containment_that_cannot_be_prolonged_ends() -> None:
    desk = contained()
    packets(desk, "effective", NOW + 10)
    desk.gateway.fail_on = ("apply NetworkPolicy",)
    assert desk.looked(NOW + 600) == ["expired expired"]


def test_attempts_in_between_begin_the_quiet_anew() -> None:
    desk = contained(upkeep(release_after_quiet_s=300))
    packets(desk, "quiet", NOW + 10)
    packets(desk, "effective", NOW + 200)
    packets(desk, "quiet", NOW + 250)
    assert desk.looked(NOW + 500) == []
    assert desk.looked(NOW + 550) == ["released quiet"]


def test_a_deadline_that_passes_is_told_once_and_only_where_somebody_should_act() -> None:
    desk = Desk()
    desk.decided(decision("quarantine_pod", mode="approve", id="waits"))
    desk.decided(decision("quarantine_pod", id="shown-only"))
    assert desk.looked(NOW + 60) == []
    assert desk.looked(NOW + 61) == ["missed deadline"]
    desk.restart()
    assert desk.looked(NOW + 120) == []
    (missed,) = [item for item in desk.audit if item.outcome == "missed"]
    assert missed.response_id == "waits"


def test_a_proposal_that_nobody_approves_lapses() -> None:
    desk = Desk(upkeep(proposal_s=3600))
    desk.decided(decision("quarantine_pod", mode="approve"))
    desk.looked(NOW + 61)
    assert desk.looked(NOW + 3601) == ["expired lapsed"]
    assert desk.said("approve", now=NOW + 3602) == ["refused not_waiting"]


def test_an_object_left_over_by_a_narrower_revision_is_taken_away() -> None:
    desk = contained()
    extra = {**desk.gateway.policies[POLICY]}
    extra["metadata"] = {**extra["metadata"], "name": f"sluicegate-{RESPONSE}-1"}
    desk.gateway.policies[f"{POLICY}-1"] = extra
    assert desk.looked(NOW + 1) == ["repaired drift"]
    assert set(desk.gateway.policies) == {POLICY}


def test_what_should_be_gone_and_is_back_is_taken_away() -> None:
    desk = contained()
    held = dict(desk.gateway.policies)
    desk.said("revert")
    desk.gateway.policies.update(held)
    assert desk.looked(NOW + 1) == ["cancelled ended"]
    assert desk.gateway.policies == {}


def test_a_cluster_that_cannot_be_read_is_said_and_nothing_is_changed() -> None:
    desk = contained()
    held = dict(desk.gateway.policies)
    desk.gateway.fail_on = ("managed",)
    assert desk.looked(NOW + 700) == ["failed forbidden"]
    assert desk.gateway.policies == held


def test_pods_of_the_containment_get_events() -> None:
    desk = Desk()
    desk.decided(QUARANTINE)
    desk.said("revert")
    assert [(e["reason"], e["involvedObject"]["name"]) for e in desk.gateway.events] == [
        ("Contained", "web-a"),
        ("ContainmentEnded", "web-a"),
    ]
    names = [e["metadata"]["name"] for e in desk.gateway.events]
    assert len(set(names)) == len(names)


def test_an_event_that_cannot_be_written_stops_nothing() -> None:
    desk = Desk(gateway=MemoryGateway(fail_on=("note",)))
    (applied,) = desk.decided(QUARANTINE)
    assert applied.outcome == "applied"
